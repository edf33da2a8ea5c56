import type { Value } from '../codec.ts'
import type { Procedure } from './procedure.ts'
import { ABSENT } from './absent.ts'
import { CONNECTION } from './connection.ts'
import { DOMAIN, QEMU } from './domain.ts'
import { EVENT, EVENT_MESSAGES } from './event.ts'
import { NETWORK } from './network.ts'
import { STORAGE } from './storage.ts'
import { TUNING } from './tuning.ts'

/** The procedures of the main program by name. */
export const PROCEDURES = {
  ...CONNECTION,
  ...ABSENT,
  ...DOMAIN,
  ...TUNING,
  ...NETWORK,
  ...STORAGE,
  ...EVENT,
} as const

/** {@link PROCEDURES} */
export type Procedures = typeof PROCEDURES
export type ProcedureName = keyof Procedures
/** What a procedure takes. */
export type Args<N extends ProcedureName> = Value<Procedures[N]['args']>
/** What a procedure returns. */
export type Result<N extends ProcedureName> = Value<Procedures[N]['result']>

/** Messages that tell of events, by name. */
export type EventMessages = typeof EVENT_MESSAGES
export type EventName = keyof EventMessages

export { EVENT_MESSAGES, QEMU }
export type { Procedure }
