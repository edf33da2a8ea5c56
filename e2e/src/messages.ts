// What a guest's kernel says at its boot, in a form that two boots can be compared in.

/** A message of the kernel. */
export interface Message {
  /** Syslog level: 4 is a warning, 7 is for debugging. */
  readonly level: number
  readonly text: string
}

/** Parses the output of `dmesg -r`. */
export function parseMessages(raw: string): Message[] {
  return Array.from(raw.matchAll(/^<(\d+)>\[ *\d+\.\d+\] (.*)$/gm), ([, priority, text = '']) => ({
    level: Number(priority) & 7,
    text: text.trimEnd(),
  }))
}

const suspicious =
  /\bwarning\b|\bbug\b|unchecked msr|firmware bug|disabled|failed|error|unable|cannot|broken|not found|unsupported|invalid|unexpected|timed? ?out/i

/** Whether a message tells of something that is not in order. */
export function isTrouble({ level, text }: Message): boolean {
  return level <= 4 || suspicious.test(text)
}

/** The same message of another boot is the same text: numbers and addresses may differ. */
export function shape({ text }: Message): string {
  return text.replaceAll(/0x[\da-f]+|\b[\da-f]{6,}\b|\d+/gi, 'N')
}
