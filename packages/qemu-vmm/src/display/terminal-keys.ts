import { keysOfCharacter } from './keys.ts'

const ESCAPE = '\u001b'
/** What terminals send for keys that type nothing, behind the escape. */
const SEQUENCES: Readonly<Record<string, string>> = {
  '[A': 'up',
  '[B': 'down',
  '[C': 'right',
  '[D': 'left',
  OA: 'up',
  OB: 'down',
  OC: 'right',
  OD: 'left',
  '[H': 'home',
  '[F': 'end',
  OH: 'home',
  OF: 'end',
  '[1~': 'home',
  '[2~': 'insert',
  '[3~': 'delete',
  '[4~': 'end',
  '[5~': 'pgup',
  '[6~': 'pgdn',
  '[7~': 'home',
  '[8~': 'end',
  OP: 'f1',
  OQ: 'f2',
  OR: 'f3',
  OS: 'f4',
  '[[A': 'f1',
  '[[B': 'f2',
  '[[C': 'f3',
  '[[D': 'f4',
  '[[E': 'f5',
  '[11~': 'f1',
  '[12~': 'f2',
  '[13~': 'f3',
  '[14~': 'f4',
  '[15~': 'f5',
  '[17~': 'f6',
  '[18~': 'f7',
  '[19~': 'f8',
  '[20~': 'f9',
  '[21~': 'f10',
  '[23~': 'f11',
  '[24~': 'f12',
}

/**
 * Keys of a PC for what a terminal sent in one piece: an escape at its end is the key, in front of a
 * known sequence a part of that, and in front of anything else Alt. What no key types is left out.
 */
export function keysOfInput(input: string): string[][] {
  const chords: string[][] = []
  for (let at = 0; at < input.length;) {
    if (input[at] !== ESCAPE) {
      push(chords, input[at]!, [])
      at++
      continue
    }
    const rest = input.slice(at + 1)
    const sequence = Object.keys(SEQUENCES).find((known) => rest.startsWith(known))
    if (sequence !== undefined) {
      chords.push([SEQUENCES[sequence]!])
      at += 1 + sequence.length
    } else if (rest === '' || rest.startsWith(ESCAPE)) {
      chords.push(['esc'])
      at++
    } else {
      const unknown = /^\[[0-9;?]*[ -/]*[@-~]/.exec(rest)
      if (unknown === null) push(chords, rest[0]!, ['alt'])
      at += 1 + (unknown?.[0].length ?? 1)
    }
  }
  return chords
}

function push(chords: string[][], char: string, modifiers: readonly string[]): void {
  const keys = keysOfCharacter(char)
  if (keys !== undefined) chords.push([...modifiers, ...keys])
}
