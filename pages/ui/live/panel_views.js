// Views of a task: pictures, shaded text and points. Each is a figure that exists as long as the
// panel shows the run; only changes are redrawn.

// Colours of groups of points. Like those of palette.py, each has a contrast of 3:1 with both
// backgrounds. The first n are as distinct as possible for any n, also for the colour-blind.
const GROUPS = ["#2f80d8", "#d97410", "#007353", "#a63399", "#b9798c",
  "#806000", "#c62d59", "#399fb3", "#6c4dc6", "#809959"]
const SHADES = 7 // steps of shading above none; fewer steps need fewer elements
const FADED = SHADES + 1 // added to the step where a character is skipped
const [SKIPPED, LAST] = [0, 2] // states of a point; between them, drawn

class Views {
  constructor(box) {
    this.box = box
    this.items = new Map()
    this.dirty = new Set()
    this.sizes = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        for (const item of this.items.values()) if (item.figure.contains(target)) this.touch(item)
      }
    })
  }

  clear() {
    this.sizes.disconnect()
    this.items.clear()
    this.dirty.clear()
    this.box.replaceChildren()
    this.box.hidden = true
  }

  close() {
    this.clear()
    cancelAnimationFrame(this.due)
  }

  // A message leaves out unchanged arrays, and items without changed arrays. A whole message
  // leaves out only items that no longer exist.
  show(view, arrays, captions, whole) {
    if (whole) for (const name of this.items.keys()) if (!view.items[name]) this.remove(name)
    for (const [name, head] of Object.entries(view.items)) {
      if (this.items.get(name)?.head.kind !== head.kind) this.remove(name)
      const item = this.items.get(name) ?? this.add(name, head.kind)
      if (!item) continue // an unknown kind
      item.head = head
      item.caption = view.captions[name] ?? captions?.[name] ?? name
      const own = `view/${name}/`
      for (const [key, array] of Object.entries(arrays)) {
        if (key.startsWith(own)) item.arrays[key.slice(own.length)] = array
      }
      this.touch(item)
    }
    this.box.hidden = !this.items.size
  }

  add(name, kind) {
    const drawing = { picture: drawPicture, text: drawText, points: drawPoints }[kind]
    if (!drawing) return null
    const main = make(kind === "text" ? "div" : "canvas")
    const caption = make("figcaption")
    const figure = make("figure", { dataset: { name, kind, testid: `view-${name}` } }, main, caption)
    const item = { figure, main, drawing, head: { kind }, arrays: {} }
    this.items.set(name, item)
    this.box.append(figure)
    if (kind !== "picture") this.sizes.observe(main)
    return item
  }

  remove(name) {
    const item = this.items.get(name)
    if (!item) return
    this.sizes.unobserve(item.main)
    item.figure.remove()
    this.items.delete(name)
    this.dirty.delete(item)
  }

  // One item per frame, so that a dragged slider never waits for all of them. A hidden tab has no
  // frames and draws nothing.
  touch(item) {
    this.dirty.add(item)
    this.due ??= requestAnimationFrame(() => this.draw())
  }

  draw() {
    this.due = null
    const [item, next] = this.dirty
    this.dirty.delete(item)
    if (next) this.touch(next)
    if (!item) return // the run shown has changed
    write(item.figure.children[1], item.caption)
    item.drawing(item)
  }

  // Canvases must be redrawn for a new theme.
  retheme() {
    for (const item of this.items.values()) if (item.head.kind === "points") this.touch(item)
  }
}

function write(el, text) { // writing the same text would cause a new layout
  if (el.textContent !== text) el.textContent = text
}

function legend(tag, ...children) {
  return make(tag, { className: "ec-legend" }, ...children)
}

function key(className, text = "", tag = "span") {
  return make(tag, {}, make("i", { className, ariaHidden: true }), make("span", { textContent: text }))
}

// Pictures ---------------------------------------------------------------------------

function drawPicture({ main, arrays, caption }) {
  paint(main, arrays.pixels.shape, arrays.pixels.values, caption)
}

function paint(canvas, [height, width, channels = 1], values, caption) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
  canvas.setAttribute("role", "img")
  canvas.setAttribute("aria-label", caption)
  const image = new ImageData(width, height)
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = values[channels * i + (channels === 3 ? c : 0)]
    image.data[4 * i + 3] = 255
  }
  canvas.getContext("2d").putImageData(image, 0, 0)
}

// Text -------------------------------------------------------------------------------

function drawText(item) {
  const { figure, main, head, arrays, caption } = item
  if (!item.runs) {
    item.runs = []
    Object.assign(item, { shaded: key("ec-ramp"), faded: key("ec-faded", "faded: skipped in this epoch") })
    Object.assign(main, { className: "ec-text", tabIndex: 0 }).setAttribute("role", "group")
    item.faded.firstChild.textContent = "Aa"
    figure.append(legend("p", item.shaded, item.faded))
    item.faded.hidden = true
  }
  main.setAttribute("aria-label", caption)
  const { shade, dim } = arrays
  const runs = head.text ? runsOf(head.text, shade.values, dim.values) : [[FADED, "Nothing yet"]]
  replaceRuns(main, item.runs, runs)
  item.runs = runs
  item.shaded.hidden = !head.meaning
  write(item.shaded.lastChild, `shade: ${head.meaning}`)
  if (head.text && dim.values.includes(1)) item.faded.hidden = false
  keepHeight(item)
}

// Runs of characters with the same look, as [style, text]; the arrays count code points.
function runsOf(text, shade, dim) {
  const runs = []
  let i = 0
  for (const character of text) {
    const style = Math.round((shade[i] ?? 0) * SHADES / 255) + (dim[i] ? FADED : 0)
    if (runs.at(-1)?.[0] === style) runs.at(-1)[1] += character
    else runs.push([style, character])
    i += 1
  }
  return runs
}

// Replace only the runs between the first and the last difference.
function replaceRuns(box, before, after) {
  const same = (i, j) => before[i][0] === after[j][0] && before[i][1] === after[j][1]
  const most = Math.min(before.length, after.length)
  let [head, tail] = [0, 0]
  while (head < most && same(head, head)) head += 1
  while (tail < most - head && same(before.length - 1 - tail, after.length - 1 - tail)) tail += 1
  const gone = [...box.childNodes].slice(head, before.length - tail)
  const next = box.childNodes[before.length - tail] ?? null
  for (const node of gone) node.remove()
  const added = document.createDocumentFragment()
  for (const [style, text] of after.slice(head, after.length - tail)) {
    const span = style ? make("span", { textContent: text, className: style < FADED ? "" : "ec-faded" }) : text
    if (style) span.style.setProperty("--ec-shade", (style % FADED) / SHADES)
    added.append(span)
  }
  box.insertBefore(added, next)
}

// Keep the height of a text that shrinks, so that the page below does not move with every step.
function keepHeight(item) {
  const { main } = item
  if (item.wide !== main.offsetWidth) Object.assign(item, { wide: main.offsetWidth, tall: 0 })
  main.style.minHeight = `${item.tall}px`
  item.tall = main.offsetHeight
  main.style.minHeight = `${item.tall}px`
}

// Points -----------------------------------------------------------------------------

function drawPoints(item) {
  const { figure, main, head, arrays, caption } = item
  if (!item.keys) {
    item.keys = [key("ec-dot"), key("ec-dot ec-faint"), key("ec-dot ec-ring", "in the last step")]
    item.groups = legend("ul")
    item.groups.setAttribute("aria-label", "Colours")
    figure.append(item.groups, legend("p", ...item.keys))
    main.setAttribute("role", "img")
  }
  if (String(head.groups) !== item.named) {
    item.named = String(head.groups)
    item.groups.replaceChildren(...head.groups.map((name, i) => {
      const chip = key("ec-dot", name, "li")
      chip.style.color = GROUPS[i % GROUPS.length]
      return chip
    }))
  }
  const state = arrays.state.values
  const skipped = state.reduce((count, one) => count + (one === SKIPPED), 0)
  const [drawn, left, all] = [state.length - skipped, skipped, state.length].map((n) => n.toLocaleString("en"))
  write(item.keys[0].lastChild, `${drawn} drawn`)
  write(item.keys[1].lastChild, `${left} skipped in this epoch`)
  main.setAttribute("aria-label", `${caption}: ${drawn} drawn, ${left} skipped of ${all} shown`)
  scatter(main, arrays.xy.values, arrays.group.values, state)
}

function scatter(canvas, xy, group, state) {
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1]
  if (!width) return // hidden: drawn when its size changes
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)]
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h })
  const draw = canvas.getContext("2d")
  draw.setTransform(scale, 0, 0, scale, 0, 0)
  draw.clearRect(0, 0, width, height)
  const r = Math.min(3.2, Math.max(1.5, 0.3 * Math.sqrt(width * height / state.length)))
  const edge = 2 * r + 2
  draw.strokeStyle = getComputedStyle(canvas).getPropertyValue("--st-text-color")
  draw.lineWidth = 1.3
  // Drawn state by state, so that trained points lie on top of skipped ones of any group.
  for (const turn of [SKIPPED, 1, LAST]) {
    const radius = r * [0.8, 1, 1.7][turn]
    draw.globalAlpha = turn === SKIPPED ? 0.2 : 1
    for (let i = 0; i < state.length; i++) {
      if (state[i] !== turn) continue
      draw.beginPath()
      draw.arc(edge + xy[2 * i] * (width - 2 * edge), edge + (1 - xy[2 * i + 1]) * (height - 2 * edge),
        radius, 0, 7)
      draw.fillStyle = GROUPS[group[i] % GROUPS.length]
      draw.fill()
      if (turn === LAST) draw.stroke()
    }
  }
}
