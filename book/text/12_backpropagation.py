# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12. Backpropagation, whole
#
# After this chapter you can write the backward pass of a network from its forward pass, say which numbers must be kept
# for it, prove with two evaluations of the loss that it is right, and name the places where Mask R-CNN stops a gradient
# on purpose.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): nothing. The documents leave the backward pass to a
# framework; they only mention that the gradient to the boxes is stopped. What they say about joint training and about
# the number of losses is put right at the end.
#
# A network is a long chain of small functions. Forward, a number goes in and changes all numbers behind it. The question
# of training is the reverse one: there is one number at the end, the loss; by how much does it change if I move *this*
# weight, thousands of operations earlier? The answer is called the *gradient*: a number for every weight. Computing it
# costs about twice the forward pass, for all weights together. This chapter shows why.

# %%
import mrcnn_np.backbone as backbone_module
import naive
import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, Ledger, MaskRCNN, check, close, explorable, make_batch, network, on_both, scene, show
from helpers import source, train_step, zero_velocity
from matplotlib.figure import Figure

import kernels
from mrcnn_np import objective
from mrcnn_np.fpn import fpn_backward
from mrcnn_np.heads import box_head_backward, mask_head_backward
from mrcnn_np.layers import conv_bn_backward
from mrcnn_np.objective import LOSSES
from mrcnn_np.ops.activation import relu, relu_backward
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.linear import linear, linear_backward
from mrcnn_np.ops.losses import softmax_cross_entropy, softmax_cross_entropy_backward
from mrcnn_np.ops.pool import max_pool2d, max_pool2d_backward
from mrcnn_np.pyramid import pyramid_roi_align_backward
from mrcnn_np.rpn import rpn_head_backward

ledger, rng = Ledger(), np.random.default_rng(0)

# %% [markdown]
# ## One pixel's way
#
# Take the smallest network that has the parts of a large one. An image of 6 × 6. A 3 × 3 convolution: 4 × 4 numbers.
# ReLU: what is negative becomes 0. The largest of each 2 × 2: four numbers. A weighted sum of these: one number, the
# *score* $s$. The score should be 5, and the loss is $\tfrac12 (s - 5)^2$.
#
# **On paper first.** The largest of each 2 × 2, row by row, are 14, 24, 0 and 26; the weights of the sum are 1, −1, 2 and
# ½. What is the score, what is the loss?

# %%
image = np.array([[2, 1, 0, 3, 4, 1], [0, 5, 6, 2, 1, 0], [1, 7, 9, 6, 2, 1],
                  [3, 2, 8, 7, 5, 0], [1, 0, 2, 5, 8, 3], [0, 1, 3, 2, 6, 9]], float)  # fmt: skip
kernel = np.array([[1, 0, -1], [2, 1, -1], [0, 1, -2]], float)
head, target = np.array([[1, -1], [2, 0.5]]), 5.0


# Return the loss, the values on the way and a function that walks back.
def small_network(image, kernel, head):
    z, conv_cache = conv2d(image[None, :, :, None], kernel[:, :, None, None])
    r, relu_cache = relu(z)
    m, pool_cache = max_pool2d(r, kernel_size=2, stride=2)
    s, sum_cache = linear(m.reshape(1, 4), head.reshape(4, 1))

    def back(dloss=1.0):
        dm, dhead, _ = linear_backward(dloss * (s - target), sum_cache)
        dr = max_pool2d_backward(dm.reshape(m.shape), pool_cache)
        dz = relu_backward(dr, relu_cache)
        dx, dkernel, _ = conv2d_backward(dz, conv_cache)
        return dx[0, :, :, 0], dkernel[:, :, 0, 0], dhead.reshape(2, 2), dz[0, :, :, 0]

    return float((s - target).item() ** 2 / 2), (z[0, :, :, 0], m[0, :, :, 0], s.item()), back


# %%
loss, (before_relu, largest, score), back = small_network(image, kernel, head)
assert largest.tolist() == [[14, 24], [0, 26]]
assert score == 14 - 24 + 0 + 13 == 3 and loss == 2
print(image.astype(int), before_relu.astype(int), sep="\n\n")
print(f"score {score:g}, loss {loss:g}")

# %% [markdown]
# The image, and what the convolution makes of it. In the lower left pool all four numbers are negative; ReLU makes them
# zeros, and four zeros tie. The first counts as the winner, and since its ReLU is closed, nothing depends on it.
#
# Now move the pixel (2, 2), the 9 in row 2 and column 2, by a tiny amount $\varepsilon$ and follow it. The window $(p, q)$
# begins at the pixel $(p, q)$, so nine windows read it. Each multiplies it with another weight of the kernel: $(y, x)$ with
# $K_{y-p,\,x-q}$. A window whose sum is negative passes nothing on: ReLU is closed. A window that does not win its 2 × 2
# passes nothing on either. What is left are the *live paths*.
#
# On a live path every station multiplies the small change by its own slope: the convolution by the kernel's weight, an
# open ReLU by 1, a won maximum by 1, the sum by its weight, and the loss by $s - 5$. The slopes of a chain multiply: this
# is the *chain rule*. Where a number reaches the loss on several ways, the changes add. That is all of backpropagation:
# **along a path multiply, over the paths add.**
#
# **On paper first.** The winners with an open ReLU lie at (1, 1), (1, 2) and (2, 3). Which of them read the pixel (2, 2),
# and with which weights of the kernel
#
# $$K = \begin{pmatrix} 1 & 0 & -1 \\ 2 & 1 & -1 \\ 0 & 1 & -2 \end{pmatrix}?$$
#
# What is the gradient of this pixel?

# %%
ds = score - target
through_11, through_12 = ds * 1 * 1, ds * -1 * 2  # head weight, then kernel[2 - p, 2 - q]
dimage, dkernel, dhead, dconv = back()
assert (through_11, through_12, dimage[2, 2]) == (-2, 4, 2)
assert np.count_nonzero(dconv) == 3  # of sixteen windows
print(f"pixel (2, 2): {through_11:g} + {through_12:g} = {dimage[2, 2]:g}")

# %% [markdown]
# Window (1, 1) reads it with $K_{11} = 1$, window (1, 2) with $K_{10} = 2$; window (2, 3) begins at column 3 and does not
# read it. With $s - 5 = -2$ the two paths are $-2 \cdot 1 \cdot 1 = -2$ and $-2 \cdot (-1) \cdot 2 = 4$.
#
# Now do it for all 36 pixels by enumerating every path: a loop over pixels, and for each one over the windows that read it.
# The package's backward functions, called one behind the other, must say the same. Its compiled kernel, and the one for
# graphics cards in the simulator (chapter 2), take the last step of this walk, from the sixteen windows to the pixels.


# %%
# Return the gradient of every pixel: the sum over its paths of the products along them.
def by_paths(image, kernel, head):
    z = naive.conv2d(image[None, :, :, None], kernel[:, :, None, None])[0, :, :, 0]
    gradient = np.zeros(image.shape)
    for y, x in np.ndindex(image.shape):
        for p, q in np.ndindex(z.shape):
            if not (0 <= y - p < 3 and 0 <= x - q < 3):
                continue
            pool = z[p // 2 * 2 : p // 2 * 2 + 2, q // 2 * 2 : q // 2 * 2 + 2]
            live = z[p, q] > 0 and z[p, q] == pool.max()
            gradient[y, x] += (score - target) * head[p // 2, q // 2] * live * kernel[y - p, x - q]
    return gradient


with kernels.use("numpy"):
    in_numpy = small_network(image, kernel, head)[2]()[0]
    _, conv_cache = conv2d(image[None, :, :, None], kernel[:, :, None, None])
ledger.expect("gradient of the small image", in_numpy, (6, 6))
close("every path and NumPy", by_paths(image, kernel, head), in_numpy)
(compiled, *_), (on_card, *_) = on_both(conv2d_backward, dconv[None, :, :, None], conv_cache)
close("the last step, NumPy and the compiled kernel, float32", compiled[0, :, :, 0], in_numpy, tolerance=1e-6)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-6)


# %% [markdown]
# ## Why backwards?
#
# Enumerating paths is hopeless for a large network: their number multiplies from layer to layer. But paths share their
# ends. Everything behind the window (1, 2) is the same, whichever pixel it came from. So compute that once: *the change
# of the loss per change of this window's value*. Call it $dz_{12}$. It is 2 here. Then each pixel under the window only
# needs $dz_{12}$ times its weight.
#
# In this book `dy` always means the gradient of the loss with respect to `y`. A backward function takes the gradient of
# its output and returns that of its inputs:
#
# | forward | slope | backward | must be kept |
# |---|---|---|---|
# | $y = xw + b$ | $w$ for $x$, $x$ for $w$ | $dx = dy\,w^\top$, $dw = x^\top dy$, $db = \sum dy$ | $x$, $w$ |
# | $y = \max(x, 0)$ | 0 or 1 | $dx = dy \cdot [y > 0]$ | $y$ |
# | $y$ = largest of a window | 1 for the winner | $dx_{\text{winner}} \mathrel{+}= dy$ | who won |
# | $y = a + b$ | 1 and 1 | $da = dy$, $db = dy$ | nothing |
# | $b = a$, $c = a$ (used twice) | 1 and 1 | $da = db + dc$ | nothing |
#
# The last two rows are mirror images. A sum forward is a copy backward; a copy forward is a sum backward. The last column
# is the *cache*: what a forward function hands to its backward function. It is not a trick to save time. Without $x$,
# $dw = x^\top dy$ cannot be computed at all.
#
# Here is the price. The product $xw$ is one product forward and two backward, one for $dx$ and one for $dw$. So the
# backward pass costs about twice the forward pass, and it yields the gradients of all weights. From the front one would
# have to start at a weight, follow it to the loss, and begin anew for the next weight.
#
# **Exercise 12.1.** Predict before any gradient is computed: how many windows of a $k \times k$ convolution without
# padding, on an image of $n \times n$, read the pixel $(y, x)$? This is the largest number of paths it can have.


# %% tags=["exercise-12.1"]
def windows_on(n, k, y, x):
    raise NotImplementedError


check("12.1", windows_on)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def windows_on(n, k, y, x):
#     def along(u):
#         first, last = max(u - k + 1, 0), min(u, n - k)
#         return last - first + 1
#
#     return along(y) * along(x)
# ```
#
# A window that begins at $p$ covers $p, …, p + k - 1$. A corner pixel is read once, one in the middle $k^2$ times: a pixel
# at the border has fewer ways to the loss.
# </details>
#
# **Exercise 12.2.** Write the backward pass of a layer $y = \mathrm{relu}(xw + b)$ for rows of inputs. You receive `dy`
# and the cache `(x, w, y)`; return `(dx, dw, db)`.


# %% tags=["exercise-12.2"]
def layer_backward(dy, x, w, y):
    raise NotImplementedError


check("12.2", layer_backward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def layer_backward(dy, x, w, y):
#     dz = dy * (y > 0)
#     return dz @ w.T, x.T @ dz, dz.sum(axis=0)
# ```
#
# Shapes alone nearly force it: `dx` must have the shape of `x`, and there is one product that has.
# </details>
#
# ## Trace every number
#
# Choose any number: click it, or focus its board and use the arrow keys; Enter chooses the one that was chosen there last.
# Below the picture stands what its value was made from, and what its gradient was made from. Solid frames show the first,
# dashed ones the second. Every number in these two lines is a button that points at its cell, and leads there. The third
# line moves the number for real and divides.
#
# Begin at the loss and go back by the buttons: to the score, to a pool, to the window that won it, to its nine pixels. Then
# choose a pixel and follow its gradient the other way. For a pixel a table multiplies along each path; its last column adds
# up to the gradient. Change the pixel's value until another window wins: a path dies, another one opens.

# %% mystnb={"image": {"alt": "The small network: image, convolution and pool with their values above, and the gradient that each of these numbers receives below."}}
figure = Figure(figsize=(8, 5.2), layout="constrained")
rows = [("values", (image, before_relu, largest)), ("gradients", (dimage, dconv, ds * head))]
for axes, (kind, three) in zip(figure.subplots(2, 3, width_ratios=(6, 4, 2)), rows):
    for ax, numbers, name in zip(axes, three, ("image", "convolution", "pool")):
        bound = np.abs(numbers).max() * 1.8
        ax.imshow(numbers, cmap="PuOr", vmin=-bound, vmax=bound)
        for y, x in np.ndindex(numbers.shape):
            ax.text(x, y, f"{numbers[y, x]:g}".replace("-0", "0"), ha="center", va="center", fontsize=8)
        ax.set(title=f"{name}: {kind}", xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 12.1. The start of the live picture. Three windows of sixteen receive a gradient. The
# pool at the lower left receives −4, but all of its windows are closed: the gradient ends there.*

# %%
explorable("gradient_path", image=image, kernel=kernel, head=head, target=target)


# %% [markdown]
# ## The proof that needs no formula
#
# A backward pass is easy to get wrong, and a wrong one often trains. So it is never believed. The definition of a slope
# is enough to check it: move by $\pm\varepsilon$ along a direction $v$, and compare
#
# $$\frac{L(w + \varepsilon v) - L(w - \varepsilon v)}{2\varepsilon} \quad\text{with}\quad \sum_i dw_i\,v_i.$$
#
# This is the *central difference*. With a random $v$ every wrong element shows: the error would have to be at right angles
# to $v$, and chance does not do that. Two evaluations are enough for a tensor of any size.
#
# **On paper first.** The small network has 36 pixels, 9 weights in the kernel and 4 in the sum. How many evaluations of the
# loss would a check element by element need, and how many a check of each of the three along two random directions?


# %%
def as_function(image, kernel, head):
    loss, _, back = small_network(image, kernel, head)
    return np.array([loss]), lambda d: back(d.item())[:3]


check_gradients(as_function, image, kernel, head, rng=rng, tol=1e-6)
assert 2 * (36 + 9 + 4) == 98 and 2 * 2 * 3 == 12
print("gradients of image, kernel and head: right, by 12 evaluations in place of 98")

# %% [markdown]
# **Exercise 12.3.** Write the element-by-element version: the gradient of `f(x)`, one number, with respect to every
# element of the array `x`, by central differences. Leave `x` as it was.


# %% tags=["exercise-12.3"]
def numeric_gradient(f, x, eps):
    raise NotImplementedError


check("12.3", numeric_gradient)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def numeric_gradient(f, x, eps):
#     gradient = np.zeros(x.shape)
#     for i in np.ndindex(x.shape):
#         step = np.zeros(x.shape)
#         step[i] = eps
#         gradient[i] = (f(x + step) - f(x - step)) / (2 * eps)
#     return gradient
# ```
# </details>
#
# **Exercise 12.4.** Derive, then write: $y = x / \lvert x \rvert$ scales a vector to length 1. What is $dx$, given $dy$? Hint:
# $\partial y_i / \partial x_j = [i = j] / \lvert x \rvert - x_i x_j / \lvert x \rvert^3$. Batch norm's backward pass has the same form.


# %% tags=["exercise-12.4"]
def unit_backward(dy, x):
    raise NotImplementedError


check("12.4", unit_backward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def unit_backward(dy, x):
#     length = np.sqrt((x * x).sum())
#     y = x / length
#     return (dy - y * (y * dy).sum()) / length
# ```
#
# The part of `dy` along $y$ is taken away: a longer $x$ gives the same $y$, so nothing is to be gained in that direction.
# </details>
#
# ## How small a step?
#
# By Taylor $L(w \pm \varepsilon v) = L \pm \varepsilon L' + \tfrac{\varepsilon^2}{2} L'' \pm \tfrac{\varepsilon^3}{6} L'''$ and so
# on, with derivatives along $v$. In the difference the even terms cancel, and division by $2\varepsilon$ leaves
# $L' + \tfrac{\varepsilon^2}{6} L'''$: an error of the order of $\varepsilon^2$. The computer adds another one. It rounds each
# loss by about $10^{-16}$, and division by $\varepsilon$ blows that up.
#
# **On paper first.** At which $\varepsilon$ are both errors equal? And: the network has 133 tensors, of which 38 are running
# means and variances of batch norm. How many receive a gradient?

# %%
assert np.isclose(1e-16 ** (1 / 3), 4.64e-6, rtol=1e-3)
config = network().config
small_batch = make_batch([scene()], config, np.float64)
params = {name: p.astype(np.float64) for name, p in network().params.items()}
model = MaskRCNN(config, params)
losses, cache = model.losses(small_batch, 0)
grads = model.backward(cache)
stem = "backbone.stem.conv.w"
ledger.expect(stem, grads[stem], (3, 3, 3, 16))
assert set(grads) == {name for name in params if not name.endswith((".mean", ".var"))}
assert len(grads) == 95 and len(params) == 133


# Return the sum of the five losses with some tensors replaced, for the same anchors and regions.
def total_loss(**changed):
    moved = MaskRCNN(config, {**params, **changed})
    return sum(moved.losses(small_batch, 0, targets=cache.targets)[0].values())


# %% [markdown]
# From $\varepsilon^2 = 10^{-16} / \varepsilon$ follows $\varepsilon = 4.6 \cdot 10^{-6}$.
#
# The cell runs the network of the book on the image of the book, in float64. Its 95 trainable tensors receive a gradient
# from one call. Before we look inside, hold it against the difference quotient, for steps from large to tiny; and beside it
# a function without kinks, the softmax cross-entropy of one row.

# %% mystnb={"image": {"alt": "Relative error against step size, both logarithmic. The smooth function is best near 1e-5; the network only from 1e-6 down, because longer steps cross kinks."}}
steps = 10.0 ** -np.arange(1, 12)
v = grads[stem] / np.linalg.norm(grads[stem])
slope, w0 = float((grads[stem] * v).sum()), params[stem]
of_network = [abs((total_loss(**{stem: w0 + e * v}) - total_loss(**{stem: w0 - e * v})) / (2 * e) / slope - 1)
              for e in steps]  # fmt: skip
row, label, u = np.array([[2.0, 1, 0]]), np.array([1]), np.array([[0.5, -1, 2]])
_, row_cache = softmax_cross_entropy(row, label)
row_slope = float((softmax_cross_entropy_backward(np.ones(1), row_cache) * u).sum())
row_loss = [[softmax_cross_entropy(row + sign * e * u, label)[0].item() for e in steps] for sign in (1, -1)]
of_row = np.abs((np.array(row_loss[0]) - row_loss[1]) / (2 * steps) / row_slope - 1)
figure = Figure(figsize=(6.5, 3.4), layout="constrained")
ax = figure.subplots()
ax.loglog(steps, np.maximum(of_network, 1e-13), "o-", color=COLOURS[1], label="network, first convolution")
ax.loglog(steps, np.maximum(of_row, 1e-13), "s--", color=COLOURS[0], label="softmax cross-entropy: smooth")
ax.set(xlabel="step", ylabel="relative error")
ax.legend()
show(figure)
assert 1e-7 < steps[np.argmin(of_row)] < 1e-3 and min(of_row) < 1e-9
assert of_network[3] > 1e-4 and min(of_network) < 1e-6  # a step of 1e-4 is too long here

# %% [markdown]
# *Figure 12.2. The smooth function follows the calculation on paper. The network does not: a long step closes some ReLU
# or lets another cell win a pool, and the loss has a kink there.*
#
# There are more than a hundred thousand ReLUs in the way, 65,536 behind the first convolution alone, and some are always
# close to zero. Hence two rules for a check: float64, and a step that is short enough to cross no kink. At a kink itself no
# rule helps; the backward pass has to choose a slope, and the difference quotient gives another one.
#
# **Exercise 12.5.** Break the check. Return a number `x` at which the central difference of $\mathrm{relu}$ with step
# `eps` is far from the slope that `relu_backward` returns, though `relu_backward` is right. It must not be an accident of
# rounding: off by at least 0.4.


# %% tags=["exercise-12.5"]
def unlucky_place(eps):
    raise NotImplementedError


check("12.5", unlucky_place)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def unlucky_place(eps):
#     return 0.05 * eps
# ```
#
# The step reaches across the kink: the quotient is 0.525, the slope 1. At 0 itself the quotient is ½ and the package
# says 0.
# </details>
#
# ## A tape, for contrast
#
# PyTorch and TensorFlow need no backward function for a network. They note every operation while it runs, as on a *tape*,
# and walk the notes backwards. This is small enough to write. A node holds its value, the nodes it was made from (its
# parents), and a function that turns the gradient of the value into those of the parents: precisely the package's backward
# functions.


# %%
# A value on the tape.
class Node:
    def __init__(self, value, parents=(), back=None):
        self.value, self.parents, self.back, self.grad = value, parents, back, None

    def __add__(self, other):
        return Node(self.value + other.value, (self, other), lambda d: (d, d))

    def backward(self, d):
        order = parents_first(self, [])
        for node in order:
            node.grad = 0.0
        self.grad = d
        for node in reversed(order):
            for parent, gradient in zip(node.parents, node.back(node.grad) if node.back else ()):
                parent.grad = parent.grad + gradient  # the sum over the paths


# %%
def parents_first(node, order):
    if node not in order:
        for parent in node.parents:
            parents_first(parent, order)
        order.append(node)  # behind all that it was made from
    return order


# Run an operation of the package and note it.
def taped(op, op_backward, *inputs, **options):
    y, kept = op(*(node.value for node in inputs), **options)

    def back(d):
        gradients = op_backward(d, kept)
        return gradients if isinstance(gradients, tuple) else (gradients,)

    return Node(y, inputs, back)


# %% [markdown]
# That is all. The line with the plus is the heart: whoever is used twice receives twice. The order matters, too. A node
# may hand on its gradient only when all of it has arrived. `parents_first` lists each node behind its parents; read in
# reverse, the list has each node in front of them.
#
# Now a residual block, $y = \mathrm{relu}(F(x) + x)$, once by the tape and once by hand.
#
# **On paper first.** Write its backward pass in five lines. `x` is used twice: where do the two gradients meet?

# %%
x = rng.normal(size=(1, 6, 6, 4))
w1, w2 = rng.normal(size=(2, 3, 3, 4, 4)) * 0.3
n_x, n1, n2 = Node(x), Node(w1), Node(w2)
inner = taped(relu, relu_backward, taped(conv2d, conv2d_backward, n_x, n1, padding=1))
outer = taped(relu, relu_backward, taped(conv2d, conv2d_backward, inner, n2, padding=1) + n_x)


def block(x, w1, w2):
    a, cache1 = conv2d(x, w1, padding=1)
    a, gate1 = relu(a)
    b, cache2 = conv2d(a, w2, padding=1)
    y, gate2 = relu(b + x)

    def back(dy):
        dsum = relu_backward(dy, gate2)
        da, dw2, _ = conv2d_backward(dsum, cache2)
        dx, dw1, _ = conv2d_backward(relu_backward(da, gate1), cache1)
        return dx + dsum, dw1, dw2  # through the convolutions, and straight

    return y, back


# %%
y, block_back = block(x, w1, w2)
dy = ledger.expect("gradient of the block's output", rng.normal(size=y.shape), (1, 6, 6, 4))
outer.backward(dy)
for name, node, by_hand in zip(("x", "w1", "w2"), (n_x, n1, n2), block_back(dy)):
    close(f"tape and hand, d{name}", node.grad, by_hand)
check_gradients(block, x, w1, w2, rng=rng, tol=1e-6)

# %% [markdown]
# The tape frees you from writing the order down. It takes something in exchange: it keeps every value until the end, and
# when a gradient is wrong, there is no line to look at. The package writes every backward pass out. Here is that of its
# residual block. A layer `conv_bn` computes $\mathrm{relu}(\mathrm{bn}(\mathrm{conv}(x)) + \text{residual})$, so
# `conv_bn_backward` returns two gradients, of `x` and of the residual. In the block's last layer the residual is the
# shortcut.

# %%
source(backbone_module.residual_block_backward)

# %% [markdown]
# `plus=dshortcut` is the meeting: `conv_bn_backward` adds it to the `dx` that it computes. The rest is the forward pass,
# read from below.
#
# ## The whole network
#
# Mask R-CNN has five losses at three heads. Forward, the heads read the pyramid; so backward, the pyramid receives three
# gradients, and they add. The pyramid's levels were made from one another and from C2 to C5, so these receive sums,
# too. In the package's function the first lines belong to the end of the network.

# %%
source(MaskRCNN.backward)


# %% [markdown]
# The same walk again, with names at the stations and a weight for each loss, so that we can let one loss speak at a time.
#
# **On paper first.** The box head reads 48 regions of 7 × 7 × 48, the mask head twelve of 14 × 14 × 48; P2 is 32 × 32.
# Which shapes do the gradients at these stations have, and those of P3 to P6 and of the image? No region reads P6: what
# may arrive there?


# %%
# Return the gradients of the parameters and of the stations, for losses weighted by ``weight``.
def way_back(cache, weight):
    g = {}
    back = {k: getattr(objective, f"{k}_loss_backward")(weight[k], cache.losses[k]) for k in LOSSES}
    dmask = mask_head_backward(back["head_mask"], cache.mask_head, g)
    dbox = box_head_backward(back["head_class"], back["head_box"], cache.box_head, g)
    dp = rpn_head_backward(back["rpn_class"], back["rpn_box"], cache.rpn, g)
    for d, aligned in ((dmask, cache.mask_align), (dbox, cache.box_align)):
        pyramid_roi_align_backward(d, aligned, into=dp[:4])  # adds to what the proposal head sent
    dc = fpn_backward(dp, cache.fpn, g)
    dimage = backbone_module.backbone_backward(dc, cache.backbone, g)
    places = {"mask features": dmask, "box features": dbox}
    places |= {f"P{k}": d for k, d in zip((2, 3, 4, 5, 6), dp)} | {f"C{k}": d for k, d in zip((2, 3, 4, 5), dc)}
    return g, places | {"image": dimage}


# %%
ours, stations = way_back(cache, dict.fromkeys(LOSSES, 1.0))
assert all(np.array_equal(ours[name], grads[name]) for name in grads)
ledger.expect("d box features", stations["box features"], (48, 7, 7, 48))
ledger.expect("d mask features", stations["mask features"], (12, 14, 14, 48))
for k, side in zip((2, 3, 4, 5, 6), (32, 16, 8, 4, 2)):
    ledger.expect(f"d P{k}", stations[f"P{k}"], (1, side, side, 48))
ledger.expect("d C5", stations["C5"], (1, 4, 4, 96))
ledger.expect("d image", stations["image"], (1, 128, 128, 3))
alone = {name: way_back(cache, {k: float(k == name) for k in LOSSES}) for name in LOSSES}
close("five gradients, added", sum(g[stem] for g, _ in alone.values()), grads[stem], tolerance=1e-10)

# %% [markdown]
# P6 receives zeros: only the proposal network reads it, and none of its anchors was drawn for the loss.
#
# The backward pass is linear: the gradient of a sum is the sum of gradients. So each loss can be looked at alone. First
# which part of the network it reaches, then which pixels.
#
# **On paper first.** Draw the five losses as columns and proposal network, box head, mask head, pyramid and backbone as
# rows. Which of the 25 fields are zero?

# %% mystnb={"image": {"alt": "A table of five parts by five losses with the norm of the gradient in each field; the three heads each hear only their own losses, pyramid and backbone hear all five."}}
parts = ("rpn", "box_head", "mask_head", "fpn", "backbone")
norm = np.array([[np.sqrt(sum((d**2).sum() for n, d in alone[loss][0].items() if n.startswith(f"{part}.")))
                  for loss in LOSSES] for part in parts])  # fmt: skip
expected = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
assert np.array_equal(norm > 0, expected)
figure = Figure(figsize=(6.5, 3.1), layout="constrained")
ax = figure.subplots()
ax.imshow(np.sqrt(norm), cmap="Blues", vmax=2.5, aspect="auto")
for i, j in np.ndindex(norm.shape):
    ax.text(j, i, f"{norm[i, j]:.1f}" if norm[i, j] else "0", ha="center", va="center")
ax.set(xticks=range(5), xticklabels=LOSSES, yticks=range(5), yticklabels=parts)
show(figure)

# %% [markdown]
# *Figure 12.3. Norm of the gradient, by part and by loss.*
#
# Ten of 25 are zero. The three heads hear their own losses only; pyramid and backbone hear all five. So "the RPN is
# trained separately" is true of its targets and of its own layers, and false of everything that it reads. There is one
# optimisation.
#
# **Exercise 12.6.** Predict: return the set of parts, of `"rpn", "box_head", "mask_head", "fpn", "backbone"`, whose
# weights receive a gradient if only `loss` counts. `backbone_frozen` says whether all stages of the backbone are frozen.


# %% tags=["exercise-12.6"]
def parts_reached(loss, backbone_frozen):
    raise NotImplementedError


check("12.6", parts_reached)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def parts_reached(loss, backbone_frozen):
#     head = {"rpn_class": "rpn", "rpn_box": "rpn", "head_mask": "mask_head"}.get(loss, "box_head")
#     reached = {head, "fpn"}
#     return reached if backbone_frozen else reached | {"backbone"}
# ```
#
# Frozen stages save more than their update: below them the backward pass need not go.
# </details>

# %% mystnb={"image": {"alt": "The image, and for each of the five losses the size of its gradient at every pixel; all five are dark at the square and the triangle under it; most are pale at the two circles."}}
figure = Figure(figsize=(7, 4.9), layout="constrained")
axes = figure.subplots(2, 3).ravel()
axes[0].imshow(scene().image)
axes[0].set(title="the image", xticks=[], yticks=[])
for ax, loss in zip(axes[1:], LOSSES):
    size = np.abs(alone[loss][1]["image"][0]).reshape(64, 2, 64, 2, 3).sum(axis=(1, 3, 4))
    ax.imshow(np.sqrt(size), cmap="Greys", interpolation="nearest")
    ax.set(title=loss, xticks=[], yticks=[])
show(figure)
pull = np.abs(stations["image"][0]).sum(axis=-1)
inside = np.zeros(pull.shape, bool)
for y1, x1, y2, x2 in small_batch.gt_boxes[0].astype(int):
    inside[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = True
at = [pull[y1:y2, x1:x2].mean() / pull[~inside].mean() for y1, x1, y2, x2 in small_batch.gt_boxes[0].astype(int)]
assert pull[inside].mean() > 2 * pull[~inside].mean() and (pull > 0).mean() > 0.99
assert at[4] > 5 and at[1] < 1 and at[2] < 1  # the square and the two circles

# %% [markdown]
# *Figure 12.4. How much each loss would change if a pixel changed. Dark is much; square roots are drawn, so that the weak
# ones show.*
#
# (The grid is no feature of the image: with strides of 2 some pixels lie under more windows than their neighbours.)
#
# On average a pixel in or beside an object matters more than twice as much to the sum of the losses as one elsewhere.
# But the objects differ. In the box of the square, which lies on the large triangle, it is more than five times as
# much, in those of the two circles less than elsewhere: of them the network is sure, and what is right does not pull.
# Yet nearly every pixel has some gradient, even far away from all regions. There are two reasons. The proposal head
# reads the whole image. And batch norm, in training, divides by a variance to which every pixel contributes.
#
# Now the proof, for the whole: one tensor of every kind of layer, each along two random directions. The step is
# $10^{-8}$, shorter than the best one in figure 12.2, because other tensors have kinks closer by.

# %%
chosen = (stem, "backbone.stem.bn.gamma", "backbone.c2.1.conv2.w", "backbone.c4.0.shortcut.conv.w", "backbone.c5.0.bn2.beta",
          "fpn.lateral5.w", "fpn.output2.b", "rpn.conv.w", "rpn.deltas.w", "box_head.fc1.w", "mask_head.deconv.w")  # fmt: skip
for name in chosen:

    def loss_of(w, name=name):
        return np.array([total_loss(**{name: w})]), lambda d: d.item() * grads[name]

    check_gradients(loss_of, params[name], rng=rng, eps=1e-8, tol=1e-6)
print(f"{len(chosen)} tensors, from the mask head to the first convolution: right")


# %% [markdown]
# ## What the caches cost
#
# **On paper first.** The first convolution makes 16 channels of half of 128 × 128. How many numbers must be kept of it
# alone? The network has about 1.2 million weights; do the caches hold more or fewer numbers?


# %%
# Count the numbers that a cache keeps alive, each array once.
def numbers_in(value, seen):
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        new = id(value) not in seen
        seen.add(id(value))
        return value.size if new else 0
    value = list(value.values()) if isinstance(value, dict) else value
    return sum(numbers_in(v, seen) for v in value) if isinstance(value, (list, tuple)) else 0


assert 64 * 64 * 16 == 65_536 and (1024 // 128) ** 2 == 64
weights = sum(p.size for p in params.values())
seen = {id(p) for p in params.values()}
held = {part: numbers_in(getattr(cache, part), seen) for part in ("backbone", "fpn", "rpn", "box_head", "mask_head")}
assert 1.2 < sum(held.values()) / weights < 1.6 and held["mask_head"] > held["backbone"]
print(f"weights {weights / 1e6:.2f} million;", ", ".join(f"{k} {n / 1e6:.2f}" for k, n in held.items()))

# %% [markdown]
# 64 · 64 · 16 = 65,536 for this one layer, and in total more than the weights. And the caches grow with the batch and with
# the area of the images, which the weights do not. That is why training runs out of memory where detection does not; at
# 1024 pixels the backbone's part is 64 times as much. The mask head keeps more than the whole backbone: twelve regions of 28 × 28 × 48. `backward(cache, consume=True)` lets each part's cache go as
# soon as it has been used.
#
# ## Where the gradient is stopped
#
# The regions that the heads read are proposals: they come out of the proposal network. Does a gradient flow from the
# heads' losses into it, through the boxes? In the matrix above that field is zero. Let us see what is cut off. The deltas of
# the proposal network have twelve biases, four for each of three anchors. Shift all of them together, let the network
# propose and sample anew, and look at the heads' losses.
#
# **On paper first.** Does the heads' loss change? What does the backward pass say of its slope? What will a larger step do
# that a tiny one does not?


# %%
def heads_loss(shift):
    moved = MaskRCNN(config, {**params, "rpn.deltas.b": params["rpn.deltas.b"] + shift})
    values = moved.losses(small_batch, 0)[0]  # no targets given: propose and sample again
    return sum(values[name] for name in ("head_class", "head_box", "head_mask"))


by_step = {e: (heads_loss(e) - heads_loss(-e)) / (2 * e) for e in (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)}
assert abs(by_step[1e-6]) > 0.05 and np.isclose(by_step[1e-6], by_step[1e-4], rtol=0.05)
assert max(abs(by_step[e] - by_step[1e-6]) for e in (1e-3, 1e-2, 1e-1)) > abs(by_step[1e-6])
assert not any(alone[name][0]["rpn.deltas.b"].any() for name in ("head_class", "head_box", "head_mask"))
print("slope of the heads' losses: " + ", ".join(f"{s:.2f} with step {e:g}" for e, s in by_step.items()))

# %% [markdown]
# The slope is there: moving the boxes does change what the heads read, and what they should say. The backward pass
# says zero. It does not compute this slope wrongly; it answers another question, namely how the loss changes if the
# regions stay *where they are*. That is what "stop gradient" means: a part of the function is declared constant.
#
# Why? With a larger step other proposals survive NMS, other regions are sampled, and the loss jumps. Sorting,
# suppressing and drawing have no slope; the small one that remains between two jumps says nothing about them. And it
# pulls in a doubtful direction: a region can be made easier to classify by moving it away from the hard part of
# the object. The proposal network has its own loss, which knows where the object is. Faster R-CNN calls this *approximate
# joint training*. The gradient stops in one more place: the targets are constants, too, though they were computed from the
# proposals.
#
# A gradient check must respect that. `losses(..., targets=targets)` holds the choice fixed; without it the check compares
# two different functions.
#
# ## Break it
#
# The most common mistake is to forget that a number was used twice. Let the residual blocks forget: drop the gradient
# that the shortcut brings. Then train a fresh network for 60 steps on the one image, once right, once forgetful.
#
# **On paper first.** Where is the harm largest, in the heads or in the first convolution? Will the curve of the loss show
# it?


# %% tags=["break-it"]
def forgetful(dy, cache, grads, *, need_dx=True, plus=None):
    return conv_bn_backward(dy, cache, grads, need_dx=need_dx)  # plus is dropped


def trained(backward_of_layer):
    backbone_module.conv_bn_backward = backward_of_layer
    own = config.replace(batch_size=1, steps=60, warmup_steps=5, learning_rate=0.02)
    fresh = MaskRCNN(own, {k: p.astype(float) for k, p in MaskRCNN(own, rng=np.random.default_rng(0)).params.items()})
    velocity = zero_velocity(fresh.params, own)
    curve = [train_step(fresh, small_batch, velocity, step=s, rng=np.random.default_rng(s))["loss"] for s in range(60)]
    broken = model.backward(cache)[stem]
    backbone_module.conv_bn_backward = conv_bn_backward
    return curve, broken


right, wrong = trained(conv_bn_backward), trained(forgetful)
cosine = (right[1] * wrong[1]).sum() / np.linalg.norm(right[1]) / np.linalg.norm(wrong[1])
length = np.linalg.norm(wrong[1]) / np.linalg.norm(right[1])
assert np.mean(right[0][-10:]) < 0.4 * right[0][0] and np.mean(wrong[0][-10:]) < 0.4 * wrong[0][0]
assert cosine < 0.6 and length < 0.5
print(f"first convolution: {length:.0%} of the gradient's length left, cosine with the right one {cosine:.2f}")

# %% mystnb={"image": {"alt": "Two training curves over 60 steps, with the right and with the forgetful backward pass: both fall in the same way."}}
figure = Figure(figsize=(6.5, 3), layout="constrained")
ax = figure.subplots()
ax.plot(right[0], color=COLOURS[0], label="right")
ax.plot(wrong[0], "--", color=COLOURS[1], label="forgetful")
ax.set(xlabel="step", ylabel="sum of the losses", ylim=(0, None))
ax.legend()
show(figure)

# %% [markdown]
# *Figure 12.5. Which one is broken?*
#
# The curves do not tell. The loss falls in both, because the heads and the upper layers still get correct gradients and
# can fit one image by themselves. The price stands at the other end: the first convolution, which has to serve every
# later image, receives a gradient that is much too short and points elsewhere. Nobody sees that in a curve. The
# check sees it at once.

# %%
quotient = (total_loss(**{stem: w0 + 1e-7 * v}) - total_loss(**{stem: w0 - 1e-7 * v})) / 2e-7
claims = [float((gradient * v).sum()) for gradient in (right[1], wrong[1])]
assert np.isclose(quotient, claims[0], rtol=1e-5) and abs(claims[1] - quotient) > 0.5 * quotient
print(f"difference quotient {quotient:.2f}; the right pass says {claims[0]:.2f}, the forgetful one {claims[1]:.2f}")

# %% [markdown]
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | "RPN labels are trained separately from the heads" | separate targets, one joint optimisation: backbone and pyramid hear both |
# | the loss has three terms | three per region; with the two of the proposal network five are differentiated |
# | the gradient to the boxes is stopped (said without a reason) | right; the reason is that the choice of proposals has no slope |
#
# ## Do you remember?
#
# <details><summary>Q1. What happens along a path, and what over several paths?</summary>Along a path slopes multiply; over the paths the products add.</details>
# <details><summary>Q2. What does dy mean?</summary>The gradient of the loss with respect to y; it has the shape of y.</details>
# <details><summary>Q3. Why from the back?</summary>There is one loss. All paths share their ends, which are computed once; from the front the work would be repeated for every weight.</details>
# <details><summary>Q4. What is a cache?</summary>What the backward function needs from the forward one: the inputs of a product, the sign of a ReLU, the winner of a pool.</details>
# <details><summary>Q5. What is the backward pass of a sum? Of a copy?</summary>A copy; a sum.</details>
# <details><summary>Q6. Why does the backward pass cost twice the forward pass?</summary>A product forward becomes two backward: one for the input's gradient, one for the weight's.</details>
# <details><summary>Q7. Which two errors does the central difference balance?</summary>The bend of the curve, of the order of the squared step, and rounding divided by the step.</details>
# <details><summary>Q8. Why is a step of 1e-4 too long for a network?</summary>It crosses kinks: ReLUs that open or close, pools with another winner.</details>
# <details><summary>Q9. Which fields of the matrix of losses and parts are zero?</summary>Each head hears only its own losses; pyramid and backbone hear all.</details>
# <details><summary>Q10. Why does a pixel far from all objects have a gradient?</summary>The proposal head reads everywhere, and batch norm's statistics contain every pixel.</details>
# <details><summary>Q11. What does "stop gradient" declare?</summary>That a part of the function, here the regions and the targets, is constant.</details>
# <details><summary>Q12. Why are the targets passed on in a gradient check?</summary>Otherwise the loss samples again, and the difference compares two functions.</details>
# <details><summary>Q13. Does a falling loss show that the backward pass is right?</summary>No. Heads and upper layers fit a few images by themselves; only a check shows it.</details>
# <details><summary>Q14. What does a tape do that we do by hand?</summary>It notes operations in order and walks them backwards, adding where a value was used more than once.</details>
