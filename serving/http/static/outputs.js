// Read an answer by the output columns that the model declares, whatever form its predict gives it.

import { readable } from "./dom.js";

/** Return the rows of an answer: `values` by name, and `bars` (name and share). Empty where it has another form. */
export function rowsOf(model, answer) {
  if (Array.isArray(answer?.predictions)) {
    const rankings = Array.isArray(answer.predictions[0]) ? answer.predictions : [answer.predictions];
    return rankings.filter((ranking) => ranking.length).map((ranking) => ({
      values: { ...ranking[0] },
      bars: ranking.map(({ label, score }) => [label, score]),
    }));
  }
  const outputs = model.info.outputs.filter(({ name }) => answer?.[name] !== undefined && answer[name] !== null);
  const isColumn = ({ name, shape }) => (
    Array.isArray(answer[name]) && (shape.length === 1 || Array.isArray(answer[name][0])));
  if (!outputs.some(isColumn)) return outputs.length ? [row(model, outputs, (name) => answer[name])] : [];
  const columns = outputs.filter(isColumn);
  return answer[columns[0].name].map((_, i) => row(model, columns, (name) => answer[name][i]));
}

function row(model, outputs, value) {
  const values = Object.fromEntries(outputs.map(({ name }) => [name, value(name)]));
  const labels = model.info.labels ?? [];
  const shares = outputs.find(({ name, shape }) => shape.length === 2 && values[name].length === labels.length);
  const bars = shares
    ? values[shares.name].map((share, i) => [labels[i], share]).sort((one, other) => other[1] - one[1])
    : outputs.filter(({ name, datatype }) => datatype.startsWith("FP") && values[name] >= 0 && values[name] <= 1)
      .map(({ name }) => [name, values[name]]);
  if (shares) delete values[shares.name];
  return { values, bars };
}

/** Return the values of a row in a line. */
export function headline(values) {
  return Object.entries(values).map(([name, value]) => `${name} ${readable(value)}`).join(", ");
}
