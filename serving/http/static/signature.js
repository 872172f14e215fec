// What a model takes, as the OpenAPI document and its /info tell it. No model is known here by its name.

/** Return the names of the models that the server has. */
export function modelNames(document) {
  return Object.keys(document.paths)
    .map((path) => path.match(/^\/([^/{}]+)\/info$/)?.[1])
    .filter((name) => name && document.paths[`/${name}/predict`]);
}

/** Return the model as its form, its answers and its code need it; `info` is what /<model>/info answered. */
export function describe(document, name, info) {
  const has = (path) => `/${name}/${path}` in document.paths;
  const resolve = (schema) => (schema?.$ref ? resolve(reference(document, schema.$ref)) : schema ?? {});
  const content = bodyOf(document, `/${name}/predict`);
  const form = content["multipart/form-data"];
  const uploads = bodyOf(document, `/${name}/uploadfile`);
  const tensors = bodyOf(document, `/v2/models/${name}/infer`)?.["application/json"].schema.example;
  return {
    name,
    info,
    title: name.replaceAll("_", " "),
    input: form
      ? fileInput(resolve(form.schema), tensors)
      : jsonInput(content["application/json"].schema, resolve, info),
    columns: info.inputs.filter((column) => column.used),
    hasTensors: Boolean(tensors),
    explains: has("explain"),
    previews: has("preview"),
    hasJobs: has("score/submit"),
    takesFiles: has("uploadfile"),
    fileKinds: resolve(uploads?.["multipart/form-data"].schema).properties?.file.description,
    secured: Boolean(document.paths[`/${name}/predict`].post.security),
  };
}

function bodyOf(document, path) {
  return document.paths[path]?.post.requestBody.content;
}

function reference(document, address) {
  return address.replace("#/", "").split("/").reduce((found, part) => found[part], document);
}

function fileInput(schema, tensors) {
  const properties = Object.entries(schema.properties);
  const [field, described] = properties.find(([, property]) => property.format === "binary");
  const example = tensors?.inputs.find((tensor) => tensor.parameters?.content_type === "base64")?.data[0];
  return {
    kind: "file",
    field,
    description: described.description,
    example,
    options: properties.filter(([name]) => name !== field).map(([name, property]) => ({
      name,
      type: property.type === "boolean" ? "boolean" : "text",
      value: property.default,
      description: property.description,
    })),
  };
}

function jsonInput(schema, resolve, info) {
  const body = resolve(schema);
  const example = schema.example ?? body.example;
  const properties = Object.entries(body.properties ?? {});
  const [only, list] = properties.length === 1 ? properties[0] : [];
  const items = resolve(resolve(list).items);
  if (only && resolve(list).type === "array") {
    if (items.type === "string") {
      return { kind: "texts", field: only, example: example?.[only] ?? [], max: list.maxItems };
    }
    if (items.type === "object" && isFlat(items, resolve)) {
      return { kind: "row", wrap: only, fields: fields(items, resolve, info, example?.[only]?.[0]) };
    }
  }
  if (properties.length && isFlat(body, resolve)) {
    return { kind: "row", wrap: null, fields: fields(body, resolve, info, example) };
  }
  return { kind: "json", example };
}

function types(schema, resolve) {
  const parts = schema.anyOf ?? schema.oneOf ?? [schema];
  return new Set(parts.flatMap((part) => resolve(part).type ?? []));
}

function isFlat(schema, resolve) {
  return Object.values(schema.properties ?? {}).every((property) => {
    const found = types(resolve(property), resolve);
    return !found.has("array") && !found.has("object");
  });
}

/** Return the fields of a row that the model reads, or wants although it does not read them. */
function fields(schema, resolve, info, example) {
  const unused = new Set(info.inputs.filter((column) => !column.used).map((column) => column.name));
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties)
    .filter(([name]) => required.has(name) || !unused.has(name))
    .map(([name, given]) => {
      const property = resolve(given);
      const found = types(property, resolve);
      return {
        name,
        type: fieldType(found),
        choices: property.enum ?? (property.anyOf ?? []).map(resolve).find((part) => part.enum)?.enum,
        required: required.has(name),
        description: property.description,
        example: example?.[name] ?? property.example ?? property.examples?.[0] ?? null,
      };
    });
}

function fieldType(found) {
  if (found.has("boolean")) return "boolean";
  const isNumber = found.has("number") || found.has("integer");
  return isNumber && !found.has("string") ? "number" : "text";
}

/** Return the request that explains a row of a file, as `preview` gave it. */
export function requestForRow(model, row) {
  const { kind, wrap, field } = model.input;
  const path = `${model.name}/explain`;
  if (kind === "texts") return { path, json: { [field]: [row[model.columns[0].name]] } };
  return { path, json: wrap ? { [wrap]: [row] } : row };
}
