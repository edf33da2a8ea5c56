import { VmmError } from '../errors.ts'

/** A key of a PC keyboard: its code in scan code sets 1 and 2; extended ones have a prefix. */
export interface Key {
  set1: number
  set2: number
  extended: boolean
}

/** QEMU's names of keys, with the codes of both sets. */
const CODES: Readonly<Record<string, readonly [number, number]>> = {
  esc: [0x01, 0x76],
  '1': [0x02, 0x16],
  '2': [0x03, 0x1e],
  '3': [0x04, 0x26],
  '4': [0x05, 0x25],
  '5': [0x06, 0x2e],
  '6': [0x07, 0x36],
  '7': [0x08, 0x3d],
  '8': [0x09, 0x3e],
  '9': [0x0a, 0x46],
  '0': [0x0b, 0x45],
  minus: [0x0c, 0x4e],
  equal: [0x0d, 0x55],
  backspace: [0x0e, 0x66],
  tab: [0x0f, 0x0d],
  q: [0x10, 0x15],
  w: [0x11, 0x1d],
  e: [0x12, 0x24],
  r: [0x13, 0x2d],
  t: [0x14, 0x2c],
  y: [0x15, 0x35],
  u: [0x16, 0x3c],
  i: [0x17, 0x43],
  o: [0x18, 0x44],
  p: [0x19, 0x4d],
  bracket_left: [0x1a, 0x54],
  bracket_right: [0x1b, 0x5b],
  ret: [0x1c, 0x5a],
  ctrl: [0x1d, 0x14],
  a: [0x1e, 0x1c],
  s: [0x1f, 0x1b],
  d: [0x20, 0x23],
  f: [0x21, 0x2b],
  g: [0x22, 0x34],
  h: [0x23, 0x33],
  j: [0x24, 0x3b],
  k: [0x25, 0x42],
  l: [0x26, 0x4b],
  semicolon: [0x27, 0x4c],
  apostrophe: [0x28, 0x52],
  grave_accent: [0x29, 0x0e],
  shift: [0x2a, 0x12],
  backslash: [0x2b, 0x5d],
  z: [0x2c, 0x1a],
  x: [0x2d, 0x22],
  c: [0x2e, 0x21],
  v: [0x2f, 0x2a],
  b: [0x30, 0x32],
  n: [0x31, 0x31],
  m: [0x32, 0x3a],
  comma: [0x33, 0x41],
  dot: [0x34, 0x49],
  slash: [0x35, 0x4a],
  shift_r: [0x36, 0x59],
  kp_multiply: [0x37, 0x7c],
  alt: [0x38, 0x11],
  spc: [0x39, 0x29],
  caps_lock: [0x3a, 0x58],
  f1: [0x3b, 0x05],
  f2: [0x3c, 0x06],
  f3: [0x3d, 0x04],
  f4: [0x3e, 0x0c],
  f5: [0x3f, 0x03],
  f6: [0x40, 0x0b],
  f7: [0x41, 0x83],
  f8: [0x42, 0x0a],
  f9: [0x43, 0x01],
  f10: [0x44, 0x09],
  num_lock: [0x45, 0x77],
  scroll_lock: [0x46, 0x7e],
  kp_7: [0x47, 0x6c],
  kp_8: [0x48, 0x75],
  kp_9: [0x49, 0x7d],
  kp_subtract: [0x4a, 0x7b],
  kp_4: [0x4b, 0x6b],
  kp_5: [0x4c, 0x73],
  kp_6: [0x4d, 0x74],
  kp_add: [0x4e, 0x79],
  kp_1: [0x4f, 0x69],
  kp_2: [0x50, 0x72],
  kp_3: [0x51, 0x7a],
  kp_0: [0x52, 0x70],
  kp_decimal: [0x53, 0x71],
  sysrq: [0x54, 0x84],
  less: [0x56, 0x61],
  f11: [0x57, 0x78],
  f12: [0x58, 0x07],
}

/** Keys whose codes come behind 0xe0. */
const EXTENDED: Readonly<Record<string, readonly [number, number]>> = {
  kp_enter: [0x1c, 0x5a],
  ctrl_r: [0x1d, 0x14],
  kp_divide: [0x35, 0x4a],
  print: [0x37, 0x7c],
  alt_r: [0x38, 0x11],
  home: [0x47, 0x6c],
  up: [0x48, 0x75],
  pgup: [0x49, 0x7d],
  left: [0x4b, 0x6b],
  right: [0x4d, 0x74],
  end: [0x4f, 0x69],
  down: [0x50, 0x72],
  pgdn: [0x51, 0x7a],
  insert: [0x52, 0x70],
  delete: [0x53, 0x71],
  meta_l: [0x5b, 0x1f],
  meta_r: [0x5c, 0x27],
  menu: [0x5d, 0x2f],
}

export const KEYS: ReadonlyMap<string, Key> = new Map(
  [CODES, EXTENDED].flatMap((codes, i) =>
    Object.entries(codes).map(
      ([name, [set1, set2]]) => [name, { set1, set2, extended: i === 1 }] as const,
    ),
  ),
)

/** Keys by their names. Throws `E_KEY` for one that there is none of. */
export function keysByName(names: readonly string[]): Key[] {
  return names.map((name) => {
    const key = KEYS.get(name)
    if (key !== undefined) return key
    throw new VmmError(
      'E_KEY',
      `there is no key '${name}'; a letter or digit, ret, spc, ctrl, f1 …`,
      {
        fields: { key: name },
      },
    )
  })
}

/** Characters that need no shift, and those that do, on the keys of a US keyboard. */
const PLAIN: Readonly<Record<string, string>> = {
  '-': 'minus',
  '=': 'equal',
  '[': 'bracket_left',
  ']': 'bracket_right',
  ';': 'semicolon',
  "'": 'apostrophe',
  '`': 'grave_accent',
  '\\': 'backslash',
  ',': 'comma',
  '.': 'dot',
  '/': 'slash',
  ' ': 'spc',
  '\n': 'ret',
  '\r': 'ret',
  '\t': 'tab',
  '\b': 'backspace',
  '\u007f': 'backspace',
  '\u001b': 'esc',
}
const SHIFTED: Readonly<Record<string, string>> = {
  '!': '1',
  '@': '2',
  '#': '3',
  $: '4',
  '%': '5',
  '^': '6',
  '&': '7',
  '*': '8',
  '(': '9',
  ')': '0',
  _: 'minus',
  '+': 'equal',
  '{': 'bracket_left',
  '}': 'bracket_right',
  ':': 'semicolon',
  '"': 'apostrophe',
  '~': 'grave_accent',
  '|': 'backslash',
  '<': 'comma',
  '>': 'dot',
  '?': 'slash',
}

/** Names of the keys that type a character on a US keyboard; undefined where there are none. */
export function keysOfCharacter(char: string): string[] | undefined {
  if (/^[a-z0-9]$/.test(char)) return [char]
  if (/^[A-Z]$/.test(char)) return ['shift', char.toLowerCase()]
  const plain = PLAIN[char]
  if (plain !== undefined) return [plain]
  const shifted = SHIFTED[char]
  if (shifted !== undefined) return ['shift', shifted]
  const code = char.charCodeAt(0)
  return char.length === 1 && code >= 1 && code <= 26
    ? ['ctrl', String.fromCharCode(96 + code)]
    : undefined
}
