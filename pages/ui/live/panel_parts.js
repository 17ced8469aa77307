// Elements and tiles of the panel.

function make(tag, props = {}, ...children) {
  const { dataset, ...rest } = props
  const el = Object.assign(document.createElement(tag), rest)
  Object.assign(el.dataset, dataset)
  el.append(...children)
  return el
}

// The note is shown when its button is hovered or focused, and a screen reader reads it out.
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
    el.dataset.tone = tile.tone ?? ""
    label.textContent = tile.label
    info.hidden = !tile.note
    info.setAttribute("aria-label", `About: ${tile.label}`)
    note.textContent = tile.note
    number.firstChild.textContent = tile.value
    number.lastChild.textContent = tile.unit
    lines.forEach((line, j) => { line.textContent = tile.lines[j] ?? "" })
  }
}
