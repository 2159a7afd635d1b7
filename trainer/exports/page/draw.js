// The drawing, and what becomes of it: cut out, scaled and centred as `predict` does it.
const byId = (id) => document.getElementById(id);
const canvas = byId("draw"), pen = canvas.getContext("2d", { willReadFrequently: true });
const side = canvas.width, step = side / 40;
const frame = network.framing, [height, width] = network.shape;
let strokes = [], cursor = [side / 2, side / 2], isDown = false, isWaiting = false;

function redraw() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, side, side);
  pen.strokeStyle = "#000";
  pen.lineCap = pen.lineJoin = "round";
  for (const { thickness, points } of strokes) {
    pen.lineWidth = thickness;
    pen.beginPath();
    pen.moveTo(...points[0]);
    for (const point of points) pen.lineTo(...point);
    if (points.length === 1) pen.lineTo(points[0][0] + 0.01, points[0][1]);  // a dot
    pen.stroke();
  }
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    look();
  });
}

function look() {
  const { data } = pen.getImageData(0, 0, side, side);
  const values = prepare(Float32Array.from({ length: side * side }, (_, i) => 255 - data[4 * i]));
  const blank = new Float32Array(height * width).fill(frame.background);
  paint(byId("seen"), values ?? blank, frame.background, frame.ink);
  if (values) return respond(values);
  asked++;
  lightUp(null);
  clearAnswer("Draw a digit");
}

const begin = (point) => strokes.push({ thickness: Number(byId("brush").value), points: [point] });
const extend = (point) => strokes.at(-1).points.push(point);
let cleared = [];
const undo = () => {
  if (strokes.length) strokes.pop();
  else [strokes, cleared] = [cleared, []];
  isDown = false;
  redraw();
};
const clear = () => {
  if (strokes.length) [strokes, cleared] = [[], strokes];
  isDown = false;
  redraw();
};

function place(event) {
  const { left, top, width: across, height: along } = canvas.getBoundingClientRect();
  return [(event.clientX - left) / across * side, (event.clientY - top) / along * side];
}
let pointer = null;
canvas.addEventListener("pointerdown", (event) => {
  if (event.button || pointer !== null) return;
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  begin(place(event));
  redraw();
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  for (const part of event.getCoalescedEvents?.() ?? []) extend(place(part));
  extend(place(event));
  redraw();
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => { if (event.pointerId === pointer) pointer = null; });
}

// by keyboard: arrows move the cross, the space bar sets the pen down and lifts it
const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
function cross() {
  byId("cross").style.left = `${100 * cursor[0] / side}%`;
  byId("cross").style.top = `${100 * cursor[1] / side}%`;
  byId("cross").classList.toggle("down", isDown);
}
canvas.addEventListener("keydown", (event) => {
  if (event.key in moves) {
    cursor = cursor.map((at, axis) => clip(at + step * moves[event.key][axis], 0, side));
    if (isDown) extend(cursor);
  } else if (event.key === " ") {
    isDown = !isDown;
    if (isDown) begin(cursor);
  } else if (event.key === "Delete" || event.key === "Backspace") clear();
  else if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  else return;
  event.preventDefault();
  cross();
  redraw();
});
byId("undo").addEventListener("click", undo);
byId("clear").addEventListener("click", clear);

// --- preparing: trainer/data/ink.py and framing.py, for dark ink on a white page ----------------

const clip = (x, low, high) => Math.min(Math.max(x, low), high);
// to the nearest whole number, halves to the even one, as Python and NumPy round
const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const largest = (list, of) => list.reduce((a, b) => (of(b) > of(a) ? b : a));

function prepare(ink) {
  const least = Math.max(10, 0.15 * ink.reduce((a, b) => Math.max(a, b), 0));
  ink = ink.map((x) => (x < least ? 0 : x));
  const [pieces, labels] = connected(ink);
  if (!pieces.length) return null;
  const kept = digit(within(pieces, labels) ?? pieces), numbers = kept.map((p) => p.number);
  const top = Math.min(...kept.map((p) => p.top)), left = Math.min(...kept.map((p) => p.left));
  const rows = Math.max(...kept.map((p) => p.bottom)) - top;
  const columns = Math.max(...kept.map((p) => p.right)) - left;
  const box = Float32Array.from({ length: rows * columns }, (_, i) => {
    const at = (top + Math.floor(i / columns)) * side + left + (i % columns);
    return numbers.includes(labels[at]) ? ink[at] : 0;
  });
  return placed(box, rows, columns);
}

// Connected pieces of ink, and the number of each pixel's.
function connected(ink) {
  const labels = new Int32Array(ink.length), pieces = [];
  for (let start = 0; start < ink.length; start++) {
    if (!ink[start] || labels[start]) continue;
    const number = pieces.length + 1, stack = [start], contacts = [0, 0, 0, 0];
    const piece = { number, weight: 0, top: side, bottom: 0, left: side, right: 0 };
    labels[start] = number;
    while (stack.length) {
      const at = stack.pop(), x = at % side, y = (at - x) / side;
      piece.weight += ink[at];
      piece.top = Math.min(piece.top, y);
      piece.bottom = Math.max(piece.bottom, y + 1);
      piece.left = Math.min(piece.left, x);
      piece.right = Math.max(piece.right, x + 1);
      [y === 0, y === side - 1, x === 0, x === side - 1].forEach((is, k) => { contacts[k] += is; });
      for (let v = Math.max(0, y - 1); v <= Math.min(side - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(side - 1, x + 1); u++) {
          const next = v * side + u;
          if (ink[next] && !labels[next]) {
            labels[next] = number;
            stack.push(next);
          }
        }
      }
    }
    piece.contact = Math.max(...contacts) / side;
    piece.size = Math.max(piece.bottom - piece.top, piece.right - piece.left);
    pieces.push(piece);
  }
  return [pieces, labels];
}

// What is neither along the border nor a frame around something; null if nothing of size is left.
function within(pieces, labels) {
  let inner = pieces.filter((p) => p.contact < 0.25);
  if (!inner.length || largest(inner, (p) => p.size).size < 0.12 * side) return null;
  for (let frames = 0; frames < 8; frames++) {
    const bySize = [...inner].sort((a, b) => b.size - a.size).slice(0, 32);
    const found = bySize.filter((p) => p.size > bySize[0].size / 2)
      .map((p) => enclosed(p, inner, labels)).find((list) => list.length);
    if (!found) break;
    inner = found;
  }
  return inner;
}

function enclosed(outer, pieces, labels) {
  const rows = outer.bottom - outer.top, columns = outer.right - outer.left;
  const least = Math.min(rows, columns) / 3;
  const inside = pieces.filter((p) => outer.top < p.top && p.bottom < outer.bottom
    && outer.left < p.left && p.right < outer.right);
  if (inside.every((p) => p.size <= least)) return [];
  // what can be reached from the border of its box without crossing it is outside
  const label = (at) => labels[(outer.top + Math.floor(at / columns)) * side + outer.left + (at % columns)];
  const seen = new Uint8Array(rows * columns), stack = [], reached = new Set();
  const visit = (at) => {
    if (seen[at] || label(at) === outer.number) return;
    seen[at] = 1;
    reached.add(label(at));
    stack.push(at);
  };
  for (let y = 0; y < rows; y++) [0, columns - 1].forEach((x) => visit(y * columns + x));
  for (let x = 0; x < columns; x++) [0, rows - 1].forEach((y) => visit(y * columns + x));
  while (stack.length) {
    const at = stack.pop(), x = at % columns;
    if (x) visit(at - 1);
    if (x < columns - 1) visit(at + 1);
    if (at >= columns) visit(at - columns);
    if (at < (rows - 1) * columns) visit(at + columns);
  }
  const left = inside.filter((p) => !reached.has(p.number));
  return left.some((p) => p.size > least) ? left : [];
}

// The pieces of the digit: the heaviest, and what belongs to it.
function digit(pieces) {
  const main = largest(pieces, (p) => p.weight * (p.contact ? 0.3 : 1));
  return pieces.filter((p) => {
    if (p === main) return true;
    const across = Math.max(p.left - main.right, main.left - p.right);
    const along = Math.max(p.top - main.bottom, main.top - p.bottom);
    const together = Math.max(p.right, main.right) - Math.min(p.left, main.left);
    const isOfSize = p.size >= 0.4 * main.size && p.weight >= 0.15 * main.weight;
    const isApart = across > 0.06 * main.size || along > 0.25 * main.size
      || (across > 0 && together > 1.3 * (main.bottom - main.top)
        && p.bottom - p.top > 0.6 * (main.bottom - main.top));
    if (p.weight < 0.03 * main.weight || (isOfSize && isApart)) return false;
    return Math.max(across, along) < 0.5 * main.size;
  });
}

function placed(box, rows, columns) {
  const factor = Math.min(frame.box[0] / rows, frame.box[1] / columns);
  const high = Math.max(1, round(rows * factor)), wide = Math.max(1, round(columns * factor));
  let ink = resized(resized(box, rows, columns, wide), wide, rows, high);  // each turns it over
  ink = ink.map((x) => Math.max(x, 0));
  const most = ink.reduce((a, b) => Math.max(a, b), 0);
  // strokes are saturated in their core; thin ones have faded in scaling
  const sorted = Array.from(ink.filter((x) => x > 0.1 * most)).sort((a, b) => a - b);
  const rank = 0.6 * (sorted.length - 1), low = Math.floor(rank);
  const full = sorted[low] + (rank - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  ink = ink.map((x) => clip(x / full, 0, 1));
  const down = new Float64Array(high), right = new Float64Array(wide);
  ink.forEach((x, i) => { down[Math.floor(i / wide)] += x; right[i % wide] += x; });
  const top = start(down, frame.centre[0], height), left = start(right, frame.centre[1], width);
  const values = new Float32Array(height * width).fill(frame.background);
  ink.forEach((x, i) => {
    const value = frame.background + x * (frame.ink - frame.background);
    const at = (top + Math.floor(i / wide)) * width + left + (i % wide);
    values[at] = frame.is_whole ? round(value) : value;
  });
  return values;
}

// Where along an axis a profile begins if its centre is to lie at a place.
function start(profile, centre, length) {
  const sum = profile.reduce((a, b) => a + b);
  const mean = profile.reduce((total, x, i) => total + (i + 0.5) * x, 0) / sum;
  return clip(round(centre - (frame.by_mass ? mean : profile.length / 2)), 0, length - profile.length);
}

// An image (rows, columns) with another number of columns, turned over, by bicubic interpolation
// (Keys 1981, a = -1/2) that averages what it makes smaller, as Pillow's.
function resized(image, rows, columns, wanted) {
  const cubic = (x) => {
    x = Math.abs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  };
  const scaleDown = columns / wanted, reach = Math.max(scaleDown, 1), made = new Float32Array(wanted * rows);
  for (let x = 0; x < wanted; x++) {
    const middle = (x + 0.5) * scaleDown;
    const first = Math.max(0, Math.trunc(middle - 2 * reach + 0.5));
    const end = Math.min(columns, Math.trunc(middle + 2 * reach + 0.5));
    const weights = [];
    for (let i = first; i < end; i++) weights.push(cubic((i - middle + 0.5) / reach));
    const sum = weights.reduce((a, b) => a + b);
    for (let y = 0; y < rows; y++) {
      let total = 0;
      weights.forEach((w, i) => { total += w / sum * image[y * columns + first + i]; });
      made[x * rows + y] = total;
    }
  }
  return made;
}

// --- what is seen, and what units look for -------------------------------------------------------

function paint(target, values, low, high) {
  const context = target.getContext("2d"), image = context.createImageData(width, height);
  target.width = width;
  target.height = height;
  values.forEach((value, i) => {
    image.data.fill(clip(255 * (high - value) / (high - low), 0, 255), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

const units = layers.length > 1 ? layers[0].units : 0, drawn = Math.min(units, 400), hidden = byId("hidden");
const across = Math.ceil(Math.sqrt(2.5 * drawn)), cell = 10;
hidden.width = across * cell;
hidden.height = Math.ceil(drawn / across) * cell;

function lightUp(outputs) {
  if (!units) return;
  const context = hidden.getContext("2d"), values = outputs ? outputs[0] : new Float64Array(units);
  const most = Math.max(...values.map(Math.abs)) || 1;
  values.slice(0, drawn).forEach((value, j) => {
    const x = (j % across) * cell, y = Math.floor(j / across) * cell;
    context.fillStyle = value < 0 ? `rgb(86 180 233 / ${-value / most})` : `rgb(230 159 0 / ${value / most})`;
    context.clearRect(x, y, cell, cell);
    context.fillRect(x, y, cell - 1, cell - 1);
    context.strokeStyle = "#8888";
    context.strokeRect(x + 0.5, y + 0.5, cell - 2, cell - 2);
  });
}

function lookAt(unit) {
  if (!Number.isInteger(unit) || unit < 0 || unit >= units) {
    byId("caption").textContent = `There is no such hidden unit: 0 to ${units - 1} are there.`;
    return;
  }
  const incoming = Float32Array.from({ length: height * width }, (_, i) => layers[0].W[i * units + unit]);
  const most = incoming.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
  paint(byId("picture"), incoming, -most, most);
  byId("caption").textContent = `Hidden unit ${unit} looks for ink where it is dark, and for none where it is light.`;
  byId("unit").value = unit;
}
hidden.addEventListener("click", (event) => {
  const { left, top, width: w, height: h } = hidden.getBoundingClientRect();
  const x = Math.floor((event.clientX - left) / w * across);
  const y = Math.floor((event.clientY - top) / h * (hidden.height / cell));
  lookAt(y * across + x);
});
byId("unit").max = units - 1;
byId("unit").addEventListener("input", (event) => lookAt(event.target.valueAsNumber));
byId("units").hidden = !units;
rows.forEach(({ row }, k) => row.addEventListener("click", () => {
  if (!network.backquery.length) return;
  paint(byId("picture"), floats(network.backquery[k]), 0, 1);
  byId("caption").textContent = `What the network takes ${network.classes[k]} to look like: it was run backwards.`;
}));

paint(byId("picture"), new Float32Array(height * width), 0, 1);
cross();
redraw();
