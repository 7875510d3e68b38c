// The document that the stream tells, and its merge patches (RFC 7396).
//
// Objects have no prototype: a page or an instance may be called __proto__.

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** What JSON said, as objects without a prototype, and without nulls: not said and null are the same. */
export function bare(value) {
  return isObject(value) ? merge(Object.create(null), value) : value;
}

/** `patch` put into `target`, which is changed and returned. */
export function merge(target, patch) {
  for (const key of Object.keys(patch)) {
    const value = patch[key];
    if (value === null) delete target[key];
    else if (isObject(value) && isObject(target[key])) merge(target[key], value);
    else target[key] = bare(value);
  }
  return target;
}
