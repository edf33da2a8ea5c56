/** Keys by their number on Linux (linux/input-event-codes.h), in the names of QMP (QKeyCode). From 1 on. */
const ROWS = [
  'esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab',
  'q w e r t y u i o p bracket_left bracket_right ret ctrl',
  'a s d f g h j k l semicolon apostrophe grave_accent shift backslash',
  'z x c v b n m comma dot slash shift_r kp_multiply alt spc caps_lock',
  'f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock',
  'kp_7 kp_8 kp_9 kp_subtract kp_4 kp_5 kp_6 kp_add kp_1 kp_2 kp_3 kp_0 kp_decimal',
]
const OTHERS: Readonly<Record<number, string>> = {
  86: 'less',
  87: 'f11',
  88: 'f12',
  96: 'kp_enter',
  97: 'ctrl_r',
  98: 'kp_divide',
  99: 'print',
  100: 'alt_r',
  102: 'home',
  103: 'up',
  104: 'pgup',
  105: 'left',
  106: 'right',
  107: 'end',
  108: 'down',
  109: 'pgdn',
  110: 'insert',
  111: 'delete',
  119: 'pause',
  125: 'meta_l',
  126: 'meta_r',
  127: 'compose',
}

const LINUX = new Map<number, string>([
  ...ROWS.join(' ')
    .split(' ')
    .map((name, index) => [index + 1, name] as const),
  ...Object.entries(OTHERS).map(([code, name]) => [Number(code), name] as const),
])
/** What a keyboard of an XT sends is the same up to F12; the keys that came later have another number. */
const LAST_OF_XT = 88

/** `virKeycodeSet`, as far as keys can be told from it. */
const SETS: readonly (readonly [name: string, last: number] | undefined)[] = [
  ['linux', 127],
  ['xt', LAST_OF_XT],
]
/** QEMU's own, which begins like that of an XT. */
const QNUM = 9

/** The name of a key in QMP; undefined for a set or a key that is not known. */
export function keyName(codeset: number, code: number): string | undefined {
  const last = codeset === QNUM ? LAST_OF_XT : SETS[codeset]?.[1]
  return last === undefined || code > last ? undefined : LINUX.get(code)
}

/** What a set is called in messages. */
export function codesetName(codeset: number): string {
  return codeset === QNUM ? 'qnum' : (SETS[codeset]?.[0] ?? `number ${codeset}`)
}
