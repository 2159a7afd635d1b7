// A form for the columns of a table, and the inputs that a network makes of them.
const form = document.getElementById("form");

const short = (x) => Number(x.toPrecision(4));
const fields = network.columns.map((column) => {
  const label = document.createElement("label"), name = document.createElement("span");
  name.textContent = column.name;
  label.append(name);
  if (column.categories) {
    const select = document.createElement("select");
    column.categories.forEach((category, i) => {
      const option = new Option(category ?? "(missing)", i);
      select.append(option);
    });
    select.append(new Option("(another)", -1));
    label.append(select);
    form.append(label);
    select.addEventListener("input", look);
    return () => column.categories.map((_, i) => Number(Number(select.value) === i));
  }
  const slider = document.createElement("input"), number = document.createElement("input");
  slider.type = "range";
  number.type = "number";
  number.step = "any";
  Object.assign(slider, { min: column.low, max: column.high, step: "any" });
  slider.setAttribute("aria-label", `${column.name}, slider`);
  slider.value = column.median;
  number.value = Number(column.median.toPrecision(6));
  slider.addEventListener("input", () => {
    number.value = Number(Number(slider.value).toPrecision(4));
    look();
  });
  number.addEventListener("input", () => {
    slider.value = number.value;
    look();
  });
  const outside = document.createElement("small");
  outside.textContent = `outside what was trained on, ${short(column.low)} to ${short(column.high)}`;
  label.append(number, slider, outside);
  form.append(label);
  return () => {
    const value = number.value === "" ? column.median : Number(number.value);
    outside.hidden = value >= column.low && value <= column.high;
    return [value];
  };
});

function look() {
  respond(Float32Array.from(fields.flatMap((read) => read())));
}
const lightUp = () => {};
look();
