// Holds Kubernetes objects against the schemas of its API: a JSON list of them comes on stdin, one
// line for each that is wrong goes to stdout. A field that the API does not have is wrong too: it
// would be dropped in silence, and with it what it was to do. The library is where NODE_PATH says.
"use strict";

const { readFileSync } = require("node:fs");

// VALUE as a thing that takes from UNREAD the path of each field that is read: the schemas read the
// fields that they know.
function watched(value, path, unread) {
    if (value === null || typeof value !== "object") {
        return value;
    }
    const fields = new Map();
    for (const [key, field] of Object.entries(value)) {
        unread.add(`${path}/${key}`);
        fields.set(key, watched(field, `${path}/${key}`, unread));
    }
    return new Proxy(value, {
        get(target, key) {
            unread.delete(`${path}/${String(key)}`);
            return fields.has(key) ? fields.get(key) : target[key];
        },
    });
}

function whatIsWrong(object) {
    let model;
    try {
        model = require(`kubernetes-models/${object.apiVersion}`)[object.kind];
    } catch (error) {
        if (error.code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") {
            throw error;
        }
    }
    if (model === undefined) {
        return `no ${object.kind} is in ${object.apiVersion}`;
    }
    const unread = new Set();
    try {
        model.prototype.validate.call(watched(object, "data", unread));
    } catch (error) {
        return error.message;
    }
    return [...unread].map((path) => `${path} is no field of the API`).join(", ");
}

for (const object of JSON.parse(readFileSync(0, "utf8"))) {
    const wrong = whatIsWrong(object);
    if (wrong !== "") {
        console.log(`${object.kind} ${object.metadata?.name}: ${wrong}`);
    }
}
