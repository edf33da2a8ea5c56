/** What was looked at, and what came out. */
export interface Finding {
  /** `ok`; `note` for what is missing and may never be needed; `bad` for what keeps the daemon from working. */
  verdict: 'ok' | 'note' | 'bad'
  /** One or two words: `KVM`. */
  subject: string
  text: string
  /** What to do about it. */
  remedy?: string
}

/** Who asks, and where to look. */
export interface Host {
  /** What the paths of the system are below: empty, unless for tests. */
  root: string
  uid: number
  groups: readonly number[]
  user: string
  arch: string
}

export const ok = (subject: string, text: string): Finding => ({ verdict: 'ok', subject, text })
export const note = (subject: string, text: string, remedy: string): Finding => ({
  verdict: 'note',
  subject,
  text,
  remedy,
})
export const bad = (subject: string, text: string, remedy: string): Finding => ({
  verdict: 'bad',
  subject,
  text,
  remedy,
})
