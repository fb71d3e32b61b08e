"""Small files that want much: written opcode by opcode, one of every kind that was thought of."""

import io
import pickle
import struct
import zipfile

from weight_files import name, number, numbers, tensor_opcodes, text

from mrcnn_np.weights.formats import torch_files

HEAD = b"\x80\x04"
STREAM = torch_files.MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def zipped(opcodes, members=(("data/0", bytes(64)),)):
    """A file of torch.save with these opcodes as its structure."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + opcodes + b".")
        for member, raw in members:
            archive.writestr(f"archive/{member}", raw)
    return out.getvalue()


def reference(key="0"):
    return b"(" + text("storage") + name("torch", "FloatStorage") + text(key) + text("cpu") + number(16) + b"tQ"


#: a value whose leaves, repetitions or digits nobody can go through
BOMBS = {
    "laughs": b"]" + b"2\x86" * 80,  # a tuple of twice the tuple before
    "laughs list": b"]q\x00" + b"]q\x01h\x00ah\x00a0h\x01q\x00" * 60,
    "deep": b")" + b"\x85" * 2_000,
    "in itself": b"]q\x00h\x00a",
    "tuple in itself": b"]q\x00h\x00\x85aq\x01h\x00\x85",
    "endless tensor": tensor_opcodes("0", 16, [2**40], [0]),
    "endless table": tensor_opcodes("0", 16, [2**20, 2**20], [0, 0]),
    "long text": text("x" * 20_000),
    "long number": b"\x8b" + struct.pack("<i", 5_000) + b"\x01" * 5_000,
    "long list": b"](" + b"N" * 20_000 + b"e",
    "nothing": b"N",
    "name": name("collections", "OrderedDict"),
    "not finite": b"G\x7f\xf8\x00\x00\x00\x00\x00\x00",
}
DTYPE = name("numpy", "dtype") + b"(" + text("f4") + b"tR"
TENSOR = [reference(), number(0), numbers([2]), numbers([1]), b"\x89", b"}"]
#: every function that a pickle may call, with arguments that are right
CALLS = {
    "numpy.core.multiarray _reconstruct": [name("numpy", "ndarray"), numbers([0]), b"C\x01b"],
    "numpy.core.multiarray scalar": [DTYPE, b"C\x04abcd"],
    "numpy.core.numeric _frombuffer": [b"C\x04abcd", DTYPE, numbers([1]), text("C")],
    "numpy ndarray": [],
    "numpy dtype": [text("f4"), b"K\x00", b"K\x01"],
    "_codecs encode": [text("abc"), text("latin1")],
    "builtins bytes": [],
    "builtins bytearray": [text("abc"), text("latin-1")],
    "builtins set": [b"]"],
    "collections OrderedDict": [b"](N" + b"N\x86e"],
    "collections Counter": [b"}"],
    "argparse Namespace": [],
    "torch._utils _rebuild_tensor": TENSOR[:4],
    "torch._utils _rebuild_tensor_v2": TENSOR,
    "torch._utils _rebuild_tensor_v3": [*TENSOR, name("torch", "uint16")],
    "torch._utils _rebuild_parameter": [b"N", b"\x88", b"}"],
    "torch._utils _rebuild_parameter_with_state": [b"N", b"\x88", b"}", b"}"],
    "torch._tensor _rebuild_from_type_v2": [
        name("torch._utils", "_rebuild_tensor_v2"), name("torch", "Tensor"), b"(" + b"".join(TENSOR) + b"t", b"}",
    ],
    "torch Size": [b"]"],
    "torch device": [text("cpu")],
    "torch.storage _load_from_bytes": [b"C\x01x"],
}  # fmt: skip
REFERENCE = [text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(16)]


def streamed(opcodes):
    """The same for the format before, in which a reference has one part more."""
    structure = b"\x80\x02" + opcodes.replace(b"tQ", b"NtQ") + b"."
    return STREAM + structure + pickle.dumps(["0"], 2) + struct.pack("<q", 16) + bytes(64)


def replaced(parts, i, part):
    return b"".join([*parts[:i], part, *parts[i + 1 :]])


def bombs_everywhere():
    """Every bomb in every place of every call, state, container and reference."""
    for bomb, value in BOMBS.items():
        for called, arguments in CALLS.items():
            function = name(*called.split(" "))
            for i in range(len(arguments) + 1):
                yield f"{bomb} as argument {i} of {called}", function + b"(" + replaced(arguments, i, value) + b"tR"
            yield f"{bomb} as arguments of {called}", function + value + b"R"
        array = name("numpy.core.multiarray", "_reconstruct") + b"(tR"
        state = [b"K\x01", numbers([1]), DTYPE, b"\x89", b"C\x04abcd"]
        for i in range(5):
            yield f"{bomb} as state {i} of an array", array + b"(" + replaced(state, i, value) + b"tb"
        for i in range(3):
            yield (
                f"{bomb} as state {i} of a type",
                DTYPE + b"(" + replaced([b"K\x03", text("<"), b"N"], i, value) + b"tb",
            )
        for i in range(5):
            yield f"{bomb} as part {i} of a reference", b"(" + replaced(REFERENCE, i, value) + b"tQ"
        for what, opcodes in places(value).items():
            yield f"{bomb} as {what}", opcodes
    very_deep = places(b")" + b"\x85" * 300_000)  # to hash it would overflow the stack
    for what in ("all", "a function", "a key"):
        yield f"a very deep tuple as {what}", very_deep[what]


def places(value):
    """Everything else that an opcode may do with a value."""
    array = name("numpy.core.multiarray", "_reconstruct") + b"(tR"
    return {
        "all": value,
        "a state": array + value + b"b",
        "the state of a type": DTYPE + value + b"b",
        "a reference": value + b"Q",
        "a function": value + b")R",
        "a class": value + b")\x81",
        "a module": value + text("system") + b"\x93",
        "an attribute": text("os") + value + b"\x93",
        "a key": b"}" + value + b"Ns",
        "a key of many": b"}(" + value + b"Nu",
        "a key of a new dictionary": b"(" + value + b"Nd",
        "a key of pairs": name("collections", "OrderedDict") + b"(](" + value + b"N\x86et" + b"R",
        "a pair": name("collections", "OrderedDict") + b"(](" + value + b"et" + b"R",
        "a wrapper": b"}" + text("model") + value + b"s",
        "a tensor": b"}" + text("model") + b"}" + text("w") + value + b"ss",
        "a list to append to": value + b"Na",
        "a dictionary to fill": value + text("a") + b"Ns",
    }


def small_pickles():
    """What is no bomb by itself, but would be where a reader recurses, loops or looks things up."""
    for wrapper in ("model", "state_dict", "model_state_dict", "blobs"):
        yield f"{wrapper} in itself", b"}q\x00" + text(wrapper) + b"h\x00s"
    yield "wrappers in each other", b"}q\x00" + text("model") + b"}q\x01" + text("blobs") + b"h\x00ss"
    yield "no end", b"N" * 100 + b"("
    yield "a mark as a value", b"(\x85"
    yield "a mark remembered", b"(q\x00"
    yield "below a mark", b"N(\x86"
    yield "a place far away", b"Nr\xff\xff\xff\xff"
    yield "a place below 0", b"Ng-1\n"
    yield "a place of many digits", b"Np" + b"9" * 4000 + b"\n"
    yield "a stream cut short", name("torch.storage", "_load_from_bytes") + b"(B" + struct.pack("<I", 9) + b"\x80\x02"


MANY = {
    "marks": b"(", "dictionaries": b"}", "lists": b"]", "tuples": b"\x85", "texts": b"\x8c\x01\x80",
    "floats": b"G" + bytes(8), "memo": b"\x94", "filled": b"}NNs", "twice": b"2", "proto": b"\x80\x02",
    "objects": b"h\x00)R",
}  # fmt: skip


def large_pickles(size):
    """Files of ``size`` bytes that repeat the most for the fewest bytes."""
    half = size // 2
    big, listed = text("x" * half) + b"q\x00", b"](" + b"N" * half + b"eq\x00"
    latin = text("latin1") + b"q\x01"

    def again(opcodes):
        return opcodes * (half // len(opcodes))

    called = {
        "_codecs encode": b"(h\x00h\x01tR0", "builtins bytearray": b"(h\x00h\x01tR0", "numpy dtype": b"(h\x00tR0",
        "numpy.core.numeric _frombuffer": b"(h\x00NNNtR0",
    }  # fmt: skip
    for what, call in called.items():
        yield f"a text for {what}", big + latin + name(*what.split(" ")) + b"q\x020" + again(b"h\x02" + call)
    for what in ("collections OrderedDict", "torch Size", "builtins set", "torch._utils _rebuild_tensor_v2"):
        yield f"a list for {what}", listed + name(*what.split(" ")) + b"q\x020" + again(b"h\x02(h\x00tR0")
    yield (
        "many arguments",
        b"(" + b"N" * half + b"tq\x000" + name("torch", "device") + b"q\x010" + again(b"h\x01h\x00R0"),
    )
    array = name("numpy", "ndarray") + b")R(K\x01K\x01\x85" + DTYPE + b"\x89h\x00t" + b"q\x010"
    yield "a state of text", big + array + again(b"h\x01b")
    inner = STREAM + b"\x80\x02" + b"N" * (half - 300) + b"." + pickle.dumps([], 2)
    nested = name("torch.storage", "_load_from_bytes") + b"q\x010" + b"B" + struct.pack("<I", len(inner)) + inner
    yield "a stream again and again", nested + b"\x85q\x00" + again(b"h\x01h\x00R0")
    short = STREAM + b"\x80\x02N." + pickle.dumps([], 2)
    nested = name("torch.storage", "_load_from_bytes") + b"q\x010" + b"B" + struct.pack("<I", len(short)) + short
    yield "a short stream again and again", nested + b"\x85q\x00" + again(b"h\x01h\x00R0") * 2
    collide = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, size // 13))
    yield "numbers of one hash as keys", b"}(" + collide + b"u"
    texts = b"".join(b"\x8c\x04" + b"%04x" % (k % 65536) + b"N" for k in range(size // 7))
    yield "texts as keys", b"}(" + texts + b"u"
    for what, opcodes in MANY.items():
        yield f"many {what}", name("numpy", "ndarray") + b"q\x00" + opcodes * (size // len(opcodes))
    tensor = name("torch._utils", "_rebuild_tensor_v2") + b"q\x000(" + b"".join(TENSOR) + b"tq\x010"
    yield "many tensors", tensor + b"](" + b"h\x00h\x01R" * (size // 5)
    endless = tensor.replace(numbers([2]), numbers([2**20])).replace(numbers([1]), numbers([0]))
    yield "many endless tensors", endless + b"](" + b"h\x00h\x01R" * (size // 5)
    named = b"".join(b"\x8c\x04" + b"%04x" % k + b"h\x02" for k in range(min(size // 8, 65536)))
    yield (
        "one large tensor under many names",
        tensor.replace(numbers([2]), numbers([16])) + b"h\x00h\x01Rq\x020}(" + named + b"u",
    )


def pickled_files(size):
    """All of them as (name, bytes): pickles, in archives, in streams."""
    for what, opcodes in (*bombs_everywhere(), *small_pickles()):
        yield what, zipped(opcodes)
        yield f"{what}, in a pickle", HEAD + opcodes + b"."
        if "argument" not in what and "very" not in what:
            yield f"{what}, in a stream", streamed(opcodes)
            yield f"{what}, as the keys of a stream", STREAM + b"\x80\x02N." + b"\x80\x02" + opcodes + b"."
            yield f"{what}, as the system of a stream", STREAM[:-20] + b"\x80\x02" + opcodes + b"."
    for what, opcodes in large_pickles(size):
        yield what, zipped(opcodes)
        yield f"{what}, in a pickle", HEAD + opcodes + b"."


#: what random programs begin with
SIMPLE = [
    b"N", b"\x88", b"K\x02", b"J\xff\xff\xff\xff", b"G" + bytes(8), b"C\x04abcd", b"\x8a\x09" + b"\xff" * 9,
    b")", b"]", b"}", b"\x96" + struct.pack("<Q", 4) + b"abcd", *map(text, ("model", "w", "latin1", "storage")),
    numbers([1]), DTYPE, numbers([2, 2]), numbers([2**40, 0]), reference(), name("torch", "FloatStorage"),
    name("numpy", "ndarray"), tensor_opcodes("0", 16, [2], [1]), tensor_opcodes("0", 16, [2**30], [0]),
]  # fmt: skip
STATE = [b"K\x01", numbers([1]), DTYPE, b"\x89", b"C\x04abcd"]


def random_value(rng, depth, remembered):
    """Opcodes that leave one value: a simple one, a container, what a call makes, one that was remembered."""

    def some(parts):
        """Some parts, or others in their places."""
        return b"".join(random_value(rng, depth - 1, remembered) if rng.random() < 0.2 else part for part in parts)

    kind = rng.integers(0, 10) if depth else 0
    if kind < 2:
        return SIMPLE[rng.integers(0, len(SIMPLE))]
    members = [random_value(rng, depth - 1, remembered) for _ in range(2 * rng.integers(0, 3))] if kind < 5 else []
    if kind < 5:
        return (b"](%be", b"(%bt", b"}(%bu")[kind - 2] % b"".join(members)
    if kind == 5:
        return name("numpy.core.multiarray", "_reconstruct") + b"(tR(" + some(STATE) + b"tb"
    if kind == 6:
        return b"(" + some(REFERENCE) + b"tQ"
    if kind == 7 and remembered[0]:
        return b"h" + bytes([rng.integers(0, remembered[0])])
    called = list(CALLS)[rng.integers(0, len(CALLS))]
    made = name(*called.split(" ")) + b"(" + some(CALLS[called]) + b"tR"
    if kind == 8 and remembered[0] < 255:
        made += b"q" + bytes([remembered[0]])
        remembered[0] += 1
    return made


def random_programs(rng, count):
    """Random programs of what arrays need, a third of them with a wrong byte, in all three containers."""
    for i in range(count):
        remembered = [0]
        keys = ("model", "w", "v")[: rng.integers(1, 4)]
        items = b"".join(text(key) + random_value(rng, 4, remembered) for key in keys)
        opcodes = bytearray(b"}(" + items + b"u")
        if rng.random() < 0.3:
            opcodes[rng.integers(0, len(opcodes))] = rng.integers(0, 256)
        yield f"program {i}", (zipped(bytes(opcodes)), HEAD + opcodes + b".", streamed(bytes(opcodes)))[i % 3]


# --- other formats --------------------------------------------------------------------------------------------------


def npy(header, data=bytes(16), version=1):
    head = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head + data


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n"
HEADERS = {
    "brackets": GOOD.replace("(4,)", "(" * 9000),
    "closed brackets": GOOD.replace("(4,)", "(" * 4000 + ")" * 4000),
    "minus signs": GOOD.replace("4", "-" * 9000 + "4"),
    "a sum": GOOD.replace("4,", "+".join("1" * 4000) + ","),
    "blanks": GOOD.replace("4,", "4," + " " * 9000 + "x"),
    "commas": GOOD.replace("4,", "," * 9000),
    "digits": GOOD.replace("4,", "9" * 9000 + ","),
    "axes": GOOD.replace("4,", "1," * 4000),
    "a large size": GOOD.replace("4,", f"{2**62},"),
    "a huge product": GOOD.replace("4,", f"{2**40}, {2**40},"),
    "nothing, wide": GOOD.replace("4,", f"0, {2**40},"),
    "a negative size": GOOD.replace("4", "-4"),
    "objects": GOOD.replace("<f4", "|O"),
    "fields": GOOD.replace("'<f4'", "[('a', '<f4')]"),
    "texts": GOOD.replace("<f4", "<U4"),
    "a call": GOOD.replace("(4,)", "__import__('os').getpid()"),
    "two shapes": GOOD.replace("'descr': '<f4'", "'shape': (4,)"),
    "no shape": "{'descr': '<f4', 'fortran_order': False, }",
    "no order": GOOD.replace("False", "7"),
    "an open text": GOOD.replace("(4,)", "'''"),
    "nothing": "",
    "zero bytes": "\x00" * 5000,
}


def archive(members, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for member, raw in members:
            file.writestr(member, raw)
    return out.getvalue()


ENCRYPTED = (b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")


def arrays():
    """Archives of NumPy's arrays, as (name, bytes)."""
    for what, header in HEADERS.items():
        for version in (1, 2):
            yield f"npz with {what}, {version}", archive([("a.npy", npy(header, version=version))])
    yield "npz of pickles", archive([("a.npy", npy(GOOD.replace("<f4", "|O"), pickle.dumps([1])))])
    yield "npz of an unknown version", archive([("a.npy", npy(GOOD, version=9))])
    yield "npz with a long header", archive([("a.npy", npy(GOOD + " " * 20_000, version=2))])
    yield "npz cut short", archive([("a.npy", npy(GOOD, bytes(15)))])
    yield "npz of no array", archive([("a.npy", b"hello, there")])
    yield "npz of an empty array", archive([("a.npy", b"")])
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        whole = archive([("a.npy", npy(GOOD))], method)
        yield f"npz compressed by {method}", whole
        yield f"npz compressed by {method}, damaged", whole.replace(whole[50:60], bytes(10))
    yield "npz that unpacks to much", archive([("a.npy", npy(GOOD, bytes(50_000_000)))], zipfile.ZIP_DEFLATED)
    yield "npz of many", archive([(f"{i}.npy", npy(HEADERS["blanks"])) for i in range(200)], zipfile.ZIP_DEFLATED)
    whole = archive([("a.npy", npy(GOOD)), ("b.npy", npy(GOOD))])
    yield "npz with one name twice", whole.replace(b"b.npy", b"a.npy")
    yield (
        "npz that is encrypted",
        whole.replace(*ENCRYPTED),
    )


def safe(header, data=b""):
    head = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(head)) + head + data


def entry(dtype='"F32"', shape="[4]", offsets="[0, 16]"):
    return f'{{"dtype": {dtype}, "shape": {shape}, "data_offsets": {offsets}}}'


def safetensors_files():
    """Files of safetensors, as (name, bytes)."""
    data = bytes(16)
    for length in (0, 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1):
        yield f"safetensors with a header of {length}", struct.pack("<Q", length) + b'{"a": 1}'
    headers = {
        "brackets": '{"a":' + "[" * 100_000,
        "objects": '{"a":' * 100_000,
        "one name twice": f'{{"a": {entry()}, "a": {entry()}}}',
        "one name twice, other types": f'{{"a": {entry()}, "a": {entry(chr(34) + "I32" + chr(34))}}}',
        "overlapping tensors": f'{{"a": {entry()}, "b": {entry(offsets="[8, 24]")}}}',
        "the same tensor twice": f'{{"a": {entry()}, "b": {entry()}}}',
        "a gap": f'{{"a": {entry(offsets="[4, 20]")}}}',
        "less than there is": f'{{"a": {entry(shape="[2]", offsets="[0, 8]")}}}',
        "offsets backwards": f'{{"a": {entry(offsets="[16, 0]")}}}',
        "nothing": "{}",
        "a list": "{" + "[]" + "}",
        "no object": '{"a": 7}',
        "many axes": f'{{"a": {entry(shape="[" + "1," * 50_000 + "4]")}}}',
        "many large axes": f'{{"a": {entry(shape="[" + f"{2**61}," * 20_000 + "4]")}}}',
        "nothing, wide": f'{{"a": {entry(shape=f"[0, {2**60}, {2**60}]", offsets="[0, 0]")}}}',
        "a huge size": f'{{"a": {entry(shape="[" + "9" * 5000 + "]")}}}',
        "NaN": f'{{"a": {entry(shape="[NaN]")}}}',
        "infinity": f'{{"a": {entry(shape="[1e999]")}}}',
        "a fraction": f'{{"a": {entry(shape="[4.0]")}}}',
        "half a letter": '{"\\ud800": 7}',
        "other metadata": f'{{"__metadata__": {{"a": {{}}}}, "a": {entry()}}}',
        "listed metadata": f'{{"__metadata__": [1], "a": {entry()}}}',
        "latin": b'{"\xe9": 1}',
    }  # fmt: skip
    for kind in ("BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64", "Q99", "", "f4", "F32 "):
        headers[f"type {kind}"] = f'{{"a": {entry(chr(34) + kind + chr(34))}}}'
    for wrong in (
        "null",
        "true",
        "-1",
        "1.5",
        '"x"',
        "[]",
        "{}",
        "[[]]",
        "[-1]",
        "[true]",
        "[null]",
        "1e999",
        "9" * 4000,
    ):
        for part in ("dtype", "shape", "offsets"):
            headers[f"{part} {wrong[:9]}"] = f'{{"a": {entry(**{part: wrong})}}}'
    for what, header in headers.items():
        yield f"safetensors with {what}", safe(header, data)
    many = ",".join(f'"{i}": {entry(shape="[0]", offsets="[0, 0]")}' for i in range(10_000))
    yield "safetensors of many", safe("{" + many + "}")


def archives():
    """Archives that claim to be torch's, as (name, bytes)."""
    good = zipped(b"}" + text("w") + tensor_opcodes("0", 16, [2], [1]) + b"s")
    yield "an archive with a wrong name for a storage", zipped(reference("../../../etc/passwd"))
    yield "an archive with no storage", zipped(tensor_opcodes("7", 16, [2], [1]))
    yield (
        "an archive with many members",
        archive([("a/data.pkl", b"\x80\x02N.")] + [(f"a/data/{i}", b"") for i in range(9000)]),
    )
    yield "an archive of two", archive([("a/data.pkl", b"\x80\x02N."), ("b/data.pkl", b"\x80\x02N.")])
    yield (
        "an archive that is encrypted",
        good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"),
    )
    yield (
        "an archive with a wrong method",
        good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63\x00"),
    )
    at = good.index(b"PK\x05\x06")
    yield "an archive of 65535 members", good[: at + 8] + b"\xff\xff\xff\xff" + good[at + 12 :]
    yield "an archive whose table is elsewhere", good[: at + 16] + b"\xff\xff\xff\x7f" + good[at + 20 :]
    yield "an archive whose table is itself", good[: at + 12] + struct.pack("<II", 2**31, 0) + good[at + 20 :]


def hostile_files(size):
    """Every file of every kind, as (name, bytes); the large ones have ``size`` bytes."""
    yield from pickled_files(size)
    yield from arrays()
    yield from safetensors_files()
    yield from archives()
