// Chapter 1: one line of numbers, resized. Compared with NumPy in tests/book/test_ch01.py.

// Where new pixel i of m reads in an old line of n: index, kept inside, its two neighbours and the right one's weight.
function readAt(n, m, i, half) {
  const wanted = half ? (i + 0.5) * n / m - 0.5 : i * n / m;
  const u = Math.min(Math.max(wanted, 0), n - 1), left = Math.floor(u);
  return { wanted, u, left, right: Math.min(left + 1, n - 1), weight: u - left };
}

function resizeLine(line, m, half) {
  return Array.from({ length: m }, (_, i) => {
    const { left, right, weight } = readAt(line.length, m, i, half);
    return (1 - weight) * line[left] + weight * line[right];
  });
}

if (typeof module !== "undefined") module.exports = { readAt, resizeLine };
