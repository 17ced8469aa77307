// What the panel is made of: messages decoded, elements made, tiles filled.

// A message is a header in JSON, then arrays; see effcore.stream.frames.
function decode(buffer) {
  const size = new DataView(buffer).getUint32(0, true)
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)))
  const arrays = {}
  let at = 4 + size
  for (const [name, dtype, shape] of header.arrays) {
    const count = shape.reduce((a, b) => a * b, 1)
    const kind = dtype === "|u1" ? Uint8Array : Float32Array
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

function make(tag, props = {}, ...children) {
  const { dataset, ...rest } = props
  const el = Object.assign(document.createElement(tag), rest)
  Object.assign(el.dataset, dataset)
  el.append(...children)
  return el
}

// The note is shown when its button is pointed at or focused, and read out with it.
function makeTile(id) {
  const info = make("button", { type: "button", className: "ec-info", textContent: "?" })
  const note = make("span", { className: "ec-tip", id: `ec-note-${id}` })
  note.setAttribute("role", "tooltip")
  info.setAttribute("aria-describedby", note.id)
  info.onkeydown = (event) => { if (event.key === "Escape") info.blur() }
  return make("div", { className: "ec-tile", dataset: { testid: `tile-${id}` } },
    make("div", { className: "ec-head-line" }, make("span", { className: "ec-label" }), info, note),
    make("p", {}, make("strong"), make("span")), make("small"), make("small"))
}

function showTiles(box, tiles) {
  for (const [i, tile] of tiles.entries()) {
    const el = box.children[i] ?? box.appendChild(makeTile(tile.id))
    const [head, number, ...lines] = el.children
    const [label, info, note] = head.children
    el.dataset.quality = tile.quality
    label.textContent = tile.label
    info.hidden = !tile.note
    info.setAttribute("aria-label", `About: ${tile.label}`)
    note.textContent = tile.note
    number.firstChild.textContent = tile.value
    number.lastChild.textContent = tile.unit
    lines.forEach((line, j) => { line.textContent = tile.lines[j] ?? "" })
  }
}
