// Text from outside, as people may be shown it: what hitmesh/visible.py does, here.
//
// A control character, a line separator or a character that turns the order of what follows is shown by its
// number, such as \x1b or \u202e; letters, marks, numbers, punctuation, symbols and the space stay.

const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
const NAMED = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

const hex = (code, digits) => code.toString(16).padStart(digits, "0");

function escaped(character) {
  const code = character.codePointAt(0);
  if (character in NAMED) return NAMED[character];
  if (code < 0x100) return `\\x${hex(code, 2)}`;
  return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
}

export function visible(text) {
  return String(text).replace(HIDDEN, escaped);
}
