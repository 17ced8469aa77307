// The data map: one canvas that is redrawn in place, so that moving the epoch slider keeps the
// zoom. Only the outline that a person draws is sent to the server.

const MAPS = new WeakMap()
const WHOLE = { x: [-0.015, 0.52], y: [-0.03, 1.03] }
const CORNERS = 1500 // most corners of an outline
const STEP = 3 // least distance between corners, pixels
const CLICK = 5 // a press that moves less is a click, pixels
const REACH = 9 // distance from the pointer within which a point is found, pixels
const MARGIN = { left: 62, right: 8, top: 8, bottom: 46 }
const MANY = 5000 // points; fewer are drawn larger
const DEEPEST = 400 // largest zoom

export default function ({ data, parentElement, setStateValue }) {
  let map = MAPS.get(parentElement)
  if (!map) MAPS.set(parentElement, (map = new DataMap(parentElement, setStateValue)))
  map.show(data)
  return () => {
    map.close()
    MAPS.delete(parentElement)
  }
}

class DataMap {
  constructor(parent, setStateValue) {
    this.root = parent.querySelector(".ex-map")
    this.el = (name) => this.root.querySelector(`[data-el="${name}"]`)
    this.stage = this.root.querySelector('[data-testid="data-map"]')
    this.canvas = this.el("canvas")
    // Its pixels are read and written in every frame, which is slow on a graphics card.
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true })
    this.tell = setStateValue
    this.view = WHOLE
    this.outline = null
    this.pick(matchMedia("(pointer: coarse)").matches ? null : "outline")
    this.listen()
  }

  show(bytes) {
    const theme = this.of("--st-text-color") + this.of("--st-background-color")
    const [header, arrays] = decode(bytes.slice().buffer)
    if (header.id === this.header?.id && theme === this.theme) return
    if (header.run !== this.header?.run) Object.assign(this, { view: WHOLE, outline: null })
    Object.assign(this, { theme, header, points: new Points(arrays, header.unit, header.most) })
    this.colours = shadesOf(header.scale)
    this.stage.setAttribute("aria-label", header.label)
    this.el("shades").style.background = `linear-gradient(to right, ${header.scale.map(([at, c]) => `${c} ${100 * at}%`)})`
    this.el("most").textContent = header.most === 1 ? "once" : `${header.most.toLocaleString("en")} times`
    this.draw()
  }

  of(name) { return getComputedStyle(this.root).getPropertyValue(name).trim() }

  close() {
    this.sized.disconnect()
    cancelAnimationFrame(this.due)
  }

  // Drawing ----------------------------------------------------------------------

  drawSoon() {
    cancelAnimationFrame(this.due)
    this.due = requestAnimationFrame(() => this.draw())
  }

  draw() {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight]
    if (!this.points || !width) return
    // Draw at a lower resolution during a gesture, to keep the frame rate.
    const ratio = this.gesture ? 1 : window.devicePixelRatio || 1
    Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) })
    this.box = { left: MARGIN.left, top: MARGIN.top, width: width - MARGIN.left - MARGIN.right,
      height: height - MARGIN.top - MARGIN.bottom }
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0)
    this.pen.fillStyle = this.of("--st-background-color")
    this.pen.fillRect(0, 0, width, height)
    this.axes(ticks(...this.view.x, this.box.width / 75), ticks(...this.view.y, this.box.height / 65))
    this.drawPoints(ratio)
    this.drawOver()
    this.stage.dataset.shown = this.header.id // tests wait for this
    if (this.header.ask && !this.reported) this.tell("drawn", (this.reported = true))
  }

  axes(across, up) {
    const { pen, box } = this
    const to = this.onScreen()
    const [bottom, right] = [box.top + box.height, box.left + box.width]
    Object.assign(pen, { font: `12px ${getComputedStyle(this.root).fontFamily}`, lineWidth: 1,
      strokeStyle: "rgba(127,140,153,0.22)", fillStyle: this.of("--st-text-color") })
    pen.beginPath()
    Object.assign(pen, { textAlign: "center", textBaseline: "top" })
    for (const value of across.values) {
      const x = Math.round(value * to.sx + to.ox) + 0.5
      pen.moveTo(x, box.top)
      pen.lineTo(x, bottom)
      pen.fillText(value.toFixed(across.digits), x, bottom + 6)
    }
    pen.fillText("variability of the confidence", box.left + box.width / 2, bottom + 27)
    Object.assign(pen, { textAlign: "right", textBaseline: "middle" })
    for (const value of up.values) {
      const y = Math.round(value * to.sy + to.oy) + 0.5
      pen.moveTo(box.left, y)
      pen.lineTo(right, y)
      pen.fillText(`${(100 * value).toFixed(Math.max(0, up.digits - 2))}%`, box.left - 7, y)
    }
    pen.stroke()
    pen.save()
    pen.translate(9, box.top + box.height / 2)
    pen.rotate(-Math.PI / 2)
    pen.textAlign = "center"
    pen.fillText("mean confidence", 0, 0)
    pen.restore()
  }

  drawPoints(ratio) {
    const few = this.points.count < MANY
    const [radius, opacity] = [(few ? 3 : 2) * ratio, few ? 0.8 : 0.55]
    const edge = Math.ceil(radius) // draw points on the edge beyond it, then crop them
    const [left, top, width, height] = ["left", "top", "width", "height"].map((side) => Math.round(this.box[side] * ratio))
    const image = this.pen.getImageData(left - edge, top - edge, width + 2 * edge, height + 2 * edge)
    const to = this.onScreen()
    const inside = { sx: to.sx * ratio, sy: to.sy * ratio, ox: to.ox * ratio - left + edge, oy: to.oy * ratio - top + edge }
    this.points.paint(image, inside, this.colours, radius, opacity)
    this.pen.putImageData(image, left - edge, top - edge, edge, edge, width, height)
  }

  // Scale s and offset o that map a point's values to pixels of the element.
  onScreen() {
    const { box, view: { x, y } } = this
    const [sx, sy] = [box.width / (x[1] - x[0]), -box.height / (y[1] - y[0])]
    return { sx, sy, ox: box.left - x[0] * sx, oy: box.top - y[1] * sy }
  }

  // Draw the outline, and the current gesture.
  drawOver() {
    const to = this.onScreen()
    const path = (corners) => corners ? corners.x.map((x, i) =>
      `${i ? "L" : "M"}${(x * to.sx + to.ox).toFixed(1)},${(corners.y[i] * to.sy + to.oy).toFixed(1)}`).join("") + "Z" : ""
    const drawn = this.tool === "zoom" ? null : this.gesture?.corners
    this.el("outline").setAttribute("d", path(drawn ?? this.outline))
    this.el("frame").setAttribute("d", this.tool === "zoom" ? path(this.gesture?.corners) : "")
    const { left, top, width, height } = this.box
    for (const [name, value] of Object.entries({ x: left, y: top, width, height })) this.el("inner").setAttribute(name, value)
    this.el("erase").disabled = !this.outline
    this.el("whole").disabled = this.view === WHOLE
  }

  // Gestures and keys --------------------------------------------------------------

  listen() {
    this.sized = new ResizeObserver(() => this.drawSoon())
    this.sized.observe(this.stage)
    for (const button of this.root.querySelectorAll("button[data-tool]")) {
      button.onclick = () => this.pick(this.tool === button.dataset.tool ? null : button.dataset.tool)
    }
    this.el("erase").onclick = () => this.outlined(null)
    this.el("whole").onclick = () => this.setView(WHOLE)
    Object.assign(this.canvas, {
      onpointerdown: (event) => this.press(event), onpointermove: (event) => this.move(event),
      onpointerup: (event) => this.release(event), onpointercancel: () => this.drop(),
      onpointerleave: () => this.point(null), ondblclick: () => this.setView(WHOLE),
    })
    this.stage.onkeydown = (event) => this.key(event)
  }

  // Without a tool, the default on a phone, dragging scrolls the page.
  pick(tool) {
    this.tool = tool
    this.canvas.dataset.tool = tool ?? ""
    for (const button of this.root.querySelectorAll("button[data-tool]")) {
      button.setAttribute("aria-pressed", button.dataset.tool === tool)
    }
  }

  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect()
    return { x: event.clientX - left, y: event.clientY - top }
  }

  // The map's values at a place of the element, clamped to the view.
  valueAt({ x, y }) {
    const to = this.onScreen()
    const within = (value, [low, high]) => Math.min(high, Math.max(low, value))
    return [within((x - to.ox) / to.sx, this.view.x), within((y - to.oy) / to.sy, this.view.y)]
  }

  press(event) {
    if (!this.tool || event.button !== 0 || !this.points) return
    this.canvas.setPointerCapture(event.pointerId)
    this.point(null)
    const at = this.place(event)
    this.gesture = { from: at, last: at, far: 0, view: this.view, corners: null, path: [this.valueAt(at)] }
  }

  move(event) {
    const at = this.place(event)
    if (!this.gesture) return this.point(at)
    const { gesture } = this
    gesture.far = Math.max(gesture.far, Math.hypot(at.x - gesture.from.x, at.y - gesture.from.y))
    if (this.tool === "move") return this.setView(moved(gesture.view, gesture.from.x - at.x, at.y - gesture.from.y, this.box))
    if (this.tool === "outline") {
      if (Math.hypot(at.x - gesture.last.x, at.y - gesture.last.y) < STEP || gesture.path.length >= CORNERS) return
      gesture.path.push(this.valueAt(at))
      gesture.corners = { x: gesture.path.map(([x]) => x), y: gesture.path.map(([, y]) => y) }
    } else {
      const [[x0, y0], [x1, y1]] = [gesture.path[0], this.valueAt(at)]
      gesture.corners = { x: [x0, x1, x1, x0], y: [y0, y0, y1, y1] }
    }
    gesture.last = at
    this.drawOver()
  }

  release(event) {
    const { gesture, tool } = this
    this.gesture = null
    if (!gesture) return
    const drawn = gesture.far >= CLICK ? gesture.corners : null
    if (tool === "zoom") this.setView(drawn ? viewOf(drawn) : scaled(gesture.view, 0.5, this.valueAt(this.place(event))))
    else if (tool === "move") this.drawSoon()
    else if (drawn?.x.length > 2) this.outlined(drawn)
    else this.drawOver()
  }

  drop() {
    this.gesture = null
    this.drawSoon()
  }

  // Replace the outline.
  outlined(corners) {
    this.outline = corners
    this.drawOver()
    this.tell("region", corners && { ...corners, run: this.header.run })
  }

  setView(view) {
    this.view = view === WHOLE ? WHOLE : kept(view)
    this.point(null)
    this.drawSoon()
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.stage) return
    const { view, box } = this
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0]
    if (dx || dy) this.setView(moved(view, 0.15 * dx * box.width, 0.15 * dy * box.height, box))
    else if ("+=".includes(event.key)) this.setView(scaled(view, 0.7))
    else if (event.key === "-") this.setView(scaled(view, 1 / 0.7))
    else if (event.key === "0") this.setView(WHOLE)
    else return
    event.preventDefault()
  }

  // Show the example under the pointer.
  point(at) {
    cancelAnimationFrame(this.pointing)
    if (!at || !this.points) return this.say(null)
    this.pointing = requestAnimationFrame(() => this.say(this.points.nearest(at, this.onScreen(), REACH)))
  }

  say(nearest) {
    const [tip, ring] = [this.el("tip"), this.el("ring")]
    tip.hidden = !nearest
    ring.style.display = nearest ? "" : "none"
    if (!nearest) return
    const to = this.onScreen()
    const [x, y] = [nearest.x * to.sx + to.ox, nearest.y * to.sy + to.oy]
    ring.setAttribute("cx", x)
    ring.setAttribute("cy", y)
    const often = nearest.skipped === 1 ? "once" : `${nearest.skipped} times`
    tip.textContent = `example ${nearest.example}\nconfidence ${Math.round(100 * nearest.y)}%, variability ` +
      `${nearest.x.toFixed(2)}\nskipped ${often}`
    const beside = x + 14 + tip.offsetWidth > this.stage.clientWidth ? x - 14 - tip.offsetWidth : x + 14
    tip.style.transform = `translate(${Math.max(0, beside)}px, ${Math.max(0, y - tip.offsetHeight - 6)}px)`
  }
}

// Views: ranges of x and y -----------------------------------------------------------

function viewOf({ x, y }) {
  return { x: [Math.min(...x), Math.max(...x)], y: [Math.min(...y), Math.max(...y)] }
}

function moved({ x, y }, dx, dy, box) {
  const shift = (range, pixels, length) => range.map((end) => end + (pixels / length) * (range[1] - range[0]))
  return { x: shift(x, dx, box.width), y: shift(y, dy, box.height) }
}

function scaled(view, by, at = [(view.x[0] + view.x[1]) / 2, (view.y[0] + view.y[1]) / 2]) {
  const about = (range, centre) => range.map((end) => centre + by * (end - centre))
  return { x: about(view.x, at[0]), y: about(view.y, at[1]) }
}

// Limit a view to the map, and its zoom to DEEPEST.
function kept(view) {
  const fit = ([low, high], [least, most]) => {
    const span = Math.min(most - least, Math.max(high - low, (most - least) / DEEPEST))
    const from = Math.min(most - span, Math.max(least, (low + high - span) / 2))
    return [from, from + span]
  }
  const result = { x: fit(view.x, WHOLE.x), y: fit(view.y, WHOLE.y) }
  return JSON.stringify(result) === JSON.stringify(WHOLE) ? WHOLE : result
}
