// The map's points: unpacked, found under the pointer, and painted into the pixels of a canvas by
// hand. A browser that is asked for a circle each takes seconds over 100,000 of them, and WebGL
// without a graphics card little less; all of them are blended here within a frame or two.

const UNKNOWN = 65535 // in place of a confidence: the example has no place on the map
const SHADES = 256 // of the colour scale

class Points {
  // The arrays have a row for each example, in 16 bits; unit is what one of x and of y stands for.
  constructor({ x, y, skipped }, unit, most) {
    const [known, counts] = [[], new Uint32Array(most + 2)]
    for (let i = 0; i < y.values.length; i++) {
      if (y.values[i] === UNKNOWN) continue
      known.push(i)
      counts[skipped.values[i] + 1] += 1
    }
    for (let c = 1; c < counts.length; c++) counts[c] += counts[c - 1]
    this.count = known.length
    this.skipped = skipped.values
    // Those skipped most come last, so that what is rare among many is not covered.
    this.example = new Uint32Array(this.count)
    for (const i of known) this.example[counts[this.skipped[i]]++] = i
    const of = (array, one) => Float32Array.from(this.example, (i) => array.values[i] * one)
    this.x = of(x, unit[0])
    this.y = of(y, unit[1])
    const shade = (SHADES - 1) / Math.max(1, most)
    this.shade = Uint8Array.from(this.example, (i) => Math.round(this.skipped[i] * shade))
  }

  // The example nearest to a place of the screen, if one is within reach; of two the upper one.
  nearest(at, to, reach) {
    let [best, least] = [-1, reach * reach]
    for (let k = this.count - 1; k >= 0; k--) {
      const [dx, dy] = [this.x[k] * to.sx + to.ox - at.x, this.y[k] * to.sy + to.oy - at.y]
      const far = dx * dx + dy * dy
      if (far < least) [best, least] = [k, far]
    }
    if (best < 0) return null
    return { example: this.example[best], x: this.x[best], y: this.y[best], skipped: this.skipped[this.example[best]] }
  }

  // Blend all of them over an opaque image; to places them in its pixels.
  paint(image, to, colours, radius, opacity) {
    const { width, height } = image
    const pixels = new Uint32Array(image.data.buffer)
    const edge = Math.ceil(radius)
    const [offsets, alphas] = dot(radius, opacity, width)
    for (let k = 0; k < this.count; k++) {
      const [px, py] = [Math.round(this.x[k] * to.sx + to.ox), Math.round(this.y[k] * to.sy + to.oy)]
      if (px < edge || py < edge || px >= width - edge || py >= height - edge) continue
      const [at, colour] = [py * width + px, colours[this.shade[k]]]
      const [rb, g] = [colour & 0xff00ff, colour & 0x00ff00]
      for (let j = 0; j < offsets.length; j++) {
        // Red and blue at once: neither reaches into the other's bits that are kept.
        const below = pixels[at + offsets[j]]
        const [belowRb, belowG] = [below & 0xff00ff, below & 0x00ff00]
        pixels[at + offsets[j]] = 0xff000000
          | ((belowRb + (Math.imul(rb - belowRb, alphas[j]) >>> 8)) & 0xff00ff)
          | ((belowG + (Math.imul(g - belowG, alphas[j]) >>> 8)) & 0x00ff00)
      }
    }
  }
}

// Which pixels around its middle a dot covers, and how opaquely, of 255.
function dot(radius, opacity, width) {
  const [offsets, alphas, edge] = [[], [], Math.ceil(radius)]
  for (let dy = -edge; dy <= edge; dy++) {
    for (let dx = -edge; dx <= edge; dx++) {
      const covered = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)))
      const alpha = Math.round(255 * opacity * covered)
      if (!alpha) continue
      offsets.push(dy * width + dx)
      alphas.push(alpha)
    }
  }
  return [Int32Array.from(offsets), Int32Array.from(alphas)]
}

// The scale's colours as a canvas stores them, from stops such as [0.5, "#7a8794"].
function shadesOf(scale) {
  const stops = scale.map(([at, hex]) => [at, [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16))])
  return Uint32Array.from({ length: SHADES }, (_, shade) => {
    const at = shade / (SHADES - 1)
    const upper = Math.max(1, stops.findIndex(([stop]) => stop >= at))
    const [[from, low], [to, high]] = [stops[upper - 1], stops[upper]]
    const [r, g, b] = low.map((value, i) => Math.round(value + ((at - from) / (to - from)) * (high[i] - value)))
    return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0
  })
}

// Round numbers between two, about as many as there is room for, and the digits they need.
function ticks(from, to, room) {
  const rough = (to - from) / Math.max(2, room)
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough * 0.999)
  const first = Math.ceil(from / step - 1e-9)
  const values = Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step)
  return { values, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) }
}
