import type { Chardev } from './chardev.ts'

/** Takes everything, gives nothing. */
export class NullChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  readonly filename = 'null'

  write(): boolean {
    return true
  }

  close(): void {}
}
