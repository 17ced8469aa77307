// The map's points: unpacking, search under the pointer, and painting into a canvas's pixels. For
// 100,000 points, drawing circles takes a browser seconds, and WebGL without a graphics card hardly
// less. This code blends all of them within a frame or two.

const UNKNOWN = 65535 // confidence of an example that is not on the map
const SHADES = 256 // shades of the colour scale

// Loops over points create no temporary arrays, which would take most of a frame.
class Points {
  // The arrays have a 16-bit entry for each example; unit is the size of one step of x and of y.
  constructor({ x, y, skipped }, unit, most) {
    const next = new Uint32Array(most + 2) // next free place of each skip count
    for (let i = 0; i < y.values.length; i++) {
      if (y.values[i] !== UNKNOWN) next[skipped.values[i] + 1] += 1
    }
    for (let c = 1; c < next.length; c++) next[c] += next[c - 1]
    this.skipped = skipped.values
    this.count = next[most + 1]
    this.example = new Uint32Array(this.count)
    this.x = new Float32Array(this.count)
    this.y = new Float32Array(this.count)
    this.shade = new Uint8Array(this.count)
    const shade = (SHADES - 1) / Math.max(1, most)
    for (let i = 0; i < y.values.length; i++) {
      if (y.values[i] === UNKNOWN) continue
      // Points that were skipped most are painted last, so that a few are not covered by many.
      const k = next[this.skipped[i]]++
      this.example[k] = i
      this.x[k] = x.values[i] * unit[0]
      this.y[k] = y.values[i] * unit[1]
      this.shade[k] = Math.round(this.skipped[i] * shade)
    }
  }

  // The example nearest to a place of the screen within reach; of two, the one painted on top.
  nearest(at, to, reach) {
    let best = -1
    let least = reach * reach
    for (let k = this.count - 1; k >= 0; k--) {
      const dx = this.x[k] * to.sx + to.ox - at.x
      const dy = this.y[k] * to.sy + to.oy - at.y
      const far = dx * dx + dy * dy
      if (far >= least) continue
      best = k
      least = far
    }
    if (best < 0) return null
    return { example: this.example[best], x: this.x[best], y: this.y[best], skipped: this.skipped[this.example[best]] }
  }

  // Blend all points over an opaque image; to maps their values to its pixels.
  paint(image, to, colours, radius, opacity) {
    const { width, height } = image
    const { count, x, y, shade } = this
    const { sx, sy, ox, oy } = to
    const pixels = new Int32Array(image.data.buffer)
    const edge = Math.ceil(radius)
    const [offsets, alphas] = dot(radius, opacity, width)
    for (let k = 0; k < count; k++) {
      const px = Math.round(x[k] * sx + ox)
      const py = Math.round(y[k] * sy + oy)
      if (px < edge || py < edge || px >= width - edge || py >= height - edge) continue
      const at = py * width + px
      const colour = colours[shade[k]]
      const rb = colour & 0xff00ff
      const g = colour & 0x00ff00
      for (let j = 0; j < offsets.length; j++) {
        // Blend red and blue together: their bits do not overlap.
        const below = pixels[at + offsets[j]]
        const belowRb = below & 0xff00ff
        const belowG = below & 0x00ff00
        pixels[at + offsets[j]] = 0xff000000
          | ((belowRb + (Math.imul(rb - belowRb, alphas[j]) >>> 8)) & 0xff00ff)
          | ((belowG + (Math.imul(g - belowG, alphas[j]) >>> 8)) & 0x00ff00)
      }
    }
  }
}

// The pixels that a dot covers around its centre, with their opacity from 0 to 255.
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

// The colours of the scale in a canvas's byte order, from stops such as [0.5, "#7a8794"].
function shadesOf(scale) {
  const stops = scale.map(([at, hex]) => [at, [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16))])
  return Int32Array.from({ length: SHADES }, (_, shade) => {
    const at = shade / (SHADES - 1)
    const upper = Math.max(1, stops.findIndex(([stop]) => stop >= at))
    const [[from, low], [to, high]] = [stops[upper - 1], stops[upper]]
    const [r, g, b] = low.map((value, i) => Math.round(value + ((at - from) / (to - from)) * (high[i] - value)))
    return 0xff000000 | (b << 16) | (g << 8) | r
  })
}

// Round tick values in a range, about as many as there is room for, and their digits.
function ticks(from, to, room) {
  const rough = (to - from) / Math.max(2, room)
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough * 0.999)
  const first = Math.ceil(from / step - 1e-9)
  const values = Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step)
  return { values, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) }
}
