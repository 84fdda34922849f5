// The pulse: events per second over the last minute, stacked by kind, on a canvas. Replayed events are marked, times
// without a connection are hatched, missed records are notched, so that a break and what filled it can be seen.

import { KINDS, SLOT_MS } from './meter.js';

const CLASSES = ['c-event', 'c-token', 'c-tool', 'c-state', 'c-metric', 'c-error'];

export class Chart {
  constructor(canvas, legend) {
    this.canvas = canvas;
    this.legend = legend;
    this.context = canvas.getContext('2d');
    this.top = 1;
    this.colours = null;
    this.slots = null;
    this.size = { width: 0, height: 0, ratio: 1 };
    new ResizeObserver(() => this.measure()).observe(canvas);
    this.measure();
  }

  measure() {
    const box = this.canvas.getBoundingClientRect();
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    const width = Math.max(1, Math.round(box.width * ratio));
    const height = Math.max(1, Math.round(box.height * ratio));
    this.size = { width: box.width, height: box.height, ratio };
    // Setting a size empties the canvas, even if it is the same size.
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.slots) this.draw(this.slots);
  }

  /** Colours live in the style sheet; the legend's entries carry them here. Call after a change of theme. */
  recolour() {
    const of = (name) => getComputedStyle(this.legend.querySelector(`.${name}`), '::before').backgroundColor;
    this.colours = { kinds: CLASSES.map(of), replay: of('c-replay'), text: getComputedStyle(this.legend).color };
  }

  draw(slots) {
    this.slots = slots;
    if (this.colours === null) this.recolour();
    const { width, height, ratio } = this.size;
    const g = this.context;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const sums = slots.map((s) => (s ? s.kinds.reduce((a, b) => a + b, 0) : 0));
    const peak = Math.max(...sums, 1);
    // Rises at once, falls slowly: a calm scale is easier to read than an exact one.
    this.top = peak > this.top ? peak : Math.max(peak, this.top * 0.985);
    const count = slots.length;
    const step = width / count;
    const bar = Math.max(1, step * 0.72);
    const room = height - 14;
    g.fillStyle = this.colours.text;
    g.globalAlpha = 0.16;
    for (const share of [0.5, 1]) g.fillRect(0, Math.round(height - room * share) - 0.5, width, 1);
    g.globalAlpha = 1;
    for (let i = 0; i < count; i += 1) {
      const slot = slots[i];
      const x = i * step + (step - bar) / 2;
      if (!slot) continue;
      if (slot.away && sums[i] === 0) this.hatch(g, i * step, step, height);
      let y = height;
      for (let k = 0; k < KINDS.length; k += 1) {
        const part = (slot.kinds[k] / this.top) * room;
        if (part <= 0) continue;
        g.fillStyle = this.colours.kinds[k];
        g.fillRect(x, y - part, bar, part);
        y -= part;
      }
      if (slot.replayed > 0) {
        g.fillStyle = this.colours.replay;
        g.fillRect(i * step, y - 4, step, 2);
      }
      if (slot.missed > 0) {
        g.fillStyle = this.colours.kinds[5];
        g.beginPath();
        g.arc(x + bar / 2, 4, 2.2, 0, 7);
        g.fill();
      }
    }
    g.fillStyle = this.colours.text;
    g.globalAlpha = 0.75;
    g.font = '500 10px ui-monospace, "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
    g.fillText(`${Math.round((this.top * 1000) / SLOT_MS).toLocaleString('en-US')}/s`, 1, 10);
    g.globalAlpha = 1;
  }

  hatch(g, x, width, height) {
    g.save();
    g.beginPath();
    g.rect(x, 14, width, height - 14);
    g.clip();
    g.strokeStyle = this.colours.text;
    g.globalAlpha = 0.3;
    g.lineWidth = 1;
    g.beginPath();
    const first = Math.floor((x - height) / 6) * 6;
    for (let d = first; d < x + width; d += 6) {
      g.moveTo(d, height);
      g.lineTo(d + height, 0);
    }
    g.stroke();
    g.restore();
  }
}
