import type { UnknownCommand } from '../unknown-command.ts'
import type { TaskFile } from './task-file.ts'
import type { Transfer } from './transfer.ts'

/** What a command comes to. */
export type Outcome =
  /** It has ended well; `quiet` without an interrupt. */
  | { readonly kind: 'done'; readonly quiet?: boolean }
  /** It has failed: the bits of the error register. */
  | { readonly kind: 'error'; readonly error: number }
  /** It ends when the promise settles. */
  | { readonly kind: 'work'; readonly work: Promise<void> }
  | { readonly kind: 'transfer'; readonly transfer: Transfer }

export const DONE: Outcome = { kind: 'done' }

/** A device at an ATA channel or port. It executes commands, and whoever it hangs on moves the data. */
export interface AtaUnit {
  readonly file: TaskFile
  readonly isPacketDevice: boolean
  /** Set by who plugs it in. */
  onUnknown?: UnknownCommand
  /** Shows the signature and forgets what drivers have set; `hard` also what a software reset keeps. */
  reset(hard: boolean): void
  execute(command: number): Outcome
  /** The bytes of an outgoing transfer without a medium are complete, in `data`. */
  received(transfer: Transfer): Outcome
  /** Fills the buffers at once if that is possible without waiting. */
  readNow(position: number, buffers: readonly Uint8Array[]): boolean
  read(position: number, iov: readonly Uint8Array[]): Promise<void>
  write(position: number, iov: readonly Uint8Array[]): Promise<void>
  flush(): Promise<void>
  /** The medium failed in a transfer: what the error register shows. */
  failed(transfer: Transfer | undefined): number
  save(): unknown
  load(state: unknown): void
}
