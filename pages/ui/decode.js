// A message from the server is a header in JSON, then arrays; see effcore.live.protocol.
function decode(buffer) {
  const size = new DataView(buffer).getUint32(0, true)
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)))
  const arrays = {}
  let at = 4 + size
  for (const [name, dtype, shape] of header.arrays) {
    const count = shape.reduce((a, b) => a * b, 1)
    const kind = { "|u1": Uint8Array, "<u2": Uint16Array }[dtype] ?? Float32Array
    const values = new kind(buffer, at, count)
    at += Math.ceil(values.byteLength / 8) * 8
    arrays[name] = { shape, values }
    if (shape.length === 2 && kind === Float32Array) {
      arrays[name].rows = Array.from({ length: shape[0] },
        (_, i) => values.subarray(i * shape[1], (i + 1) * shape[1]))
    }
  }
  return [header, arrays]
}
