import type { Codec } from '../codec.ts'

/** One procedure of a program. */
export interface Procedure<A, R> {
  readonly number: number
  readonly args: Codec<A>
  readonly result: Codec<R>
  /** Whether a connection that may only read may call it. */
  readonly isRead: boolean
  /** Whether its reply opens a stream. */
  readonly hasStream: boolean
}

/** One that changes nothing. */
export function query<A, R>(number: number, args: Codec<A>, result: Codec<R>): Procedure<A, R> {
  return { number, args, result, isRead: true, hasStream: false }
}

/** One that changes something, or tells secrets. */
export function action<A, R>(number: number, args: Codec<A>, result: Codec<R>): Procedure<A, R> {
  return { number, args, result, isRead: false, hasStream: false }
}

/** An action whose reply opens a stream. */
export function stream<A, R>(number: number, args: Codec<A>, result: Codec<R>): Procedure<A, R> {
  return { number, args, result, isRead: false, hasStream: true }
}
