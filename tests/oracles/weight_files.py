"""Files of torch.save written opcode by opcode, so that PyTorch is not needed and nothing stops a lie."""

import pickle
import struct
import zipfile

import numpy as np

STORAGE = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "b1": "BoolStorage"}


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    return b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def tensor_opcodes(key, count, size, stride, *, offset=0, storage="FloatStorage"):
    """The opcodes of one tensor: _rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())."""
    reference = b"(" + text("storage") + name("torch", storage) + text(key) + text("cpu") + number(count) + b"tQ"
    arguments = reference + number(offset) + numbers(size) + numbers(stride) + b"\x89"
    arguments += name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def dictionary(items):
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def write_torch_zip(path, opcodes, storages, *, compression=zipfile.ZIP_STORED):
    """``opcodes`` of the structure, raw bytes of the storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + opcodes + b".")
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", b"3\n")


def save_like_torch(path, arrays):
    """What ``torch.save`` would write for a dictionary of tensors."""
    items, storages = {}, {}
    for i, (key, a) in enumerate(arrays.items()):
        a = np.asarray(a)
        stride = [s // a.itemsize for s in np.ascontiguousarray(a).strides] if a.ndim else []
        kind = STORAGE[a.dtype.str[1:]]
        items[key] = tensor_opcodes(str(i), a.size, a.shape, stride, storage=kind)
        storages[str(i)] = a.tobytes()
    write_torch_zip(path, dictionary(items), storages)


class Attack:
    """Runs a command when it is unpickled carelessly."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def attack(path, marker, *, protocol=2):
    """A pickle that would create the file ``marker``."""
    path.write_bytes(pickle.dumps({"model": Attack(f"touch {marker}")}, protocol=protocol))
