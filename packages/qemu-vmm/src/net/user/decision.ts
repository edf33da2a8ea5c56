import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

import { VmmError } from '../../errors.ts'
import { tcpPair, udpPair, type NativeAnswer, type NativeQuestion } from '../../native/usernet.ts'
import { endpoint, isIPv4, isIPv6 } from './addresses.ts'
import { DatagramStream } from './datagram-stream.ts'

/** An address and a port. */
export interface Endpoint {
  address: string
  port: number
}

/** A connection that the guest begins; with UDP the first datagram from one of its ports to somebody. */
export interface ConnectRequest {
  /** Id of the network. */
  network: string
  protocol: 'tcp' | 'udp'
  /** The guest's end. */
  from: Endpoint
  /** Whom the guest wants to reach, by the address that it knows: the router's for the host's loopback. */
  to: Endpoint
}

/**
 * What becomes of a connection:
 *
 * - `'allow'`: it goes where it would without a hook.
 * - `'refuse'`: the guest gets a reset, for UDP an ICMP error (port unreachable).
 * - `'drop'`: the guest hears nothing.
 * - `redirect`: another place of the host's network answers; a path is that of a UNIX socket, for TCP only.
 * - `stream`, for TCP: the program answers. It is given a socket whose other end is the guest; `resetAndDestroy()` resets
 *   the guest's connection, and a reset of the guest's is an error `ECONNRESET`.
 * - `datagrams`, for UDP: the program answers, through a stream of datagrams, a `Uint8Array` each.
 * - `fd`: an open and connected socket of this process, which belongs to the network from then on.
 */
export type ConnectDecision =
  | 'allow'
  | 'refuse'
  | 'drop'
  | { redirect: Endpoint | { path: string } }
  | { stream: (socket: Socket) => void }
  | { datagrams: (stream: Duplex) => void }
  | { fd: number }

/** Decides on each connection of a guest. What it throws refuses the connection, and is reported. */
export type OnConnect = (request: ConnectRequest) => ConnectDecision | Promise<ConnectDecision>

/** A decision that may go to another thread. */
export type Verdict = Exclude<ConnectDecision, { stream: unknown } | { datagrams: unknown }>

/**
 * Asks the hook, and begins to answer where it wants that.
 * @throws VmmError E_NETDEV for a decision that cannot be
 */
export async function decide(onConnect: OnConnect, request: ConnectRequest): Promise<Verdict> {
  const decision: unknown = await onConnect(request)
  const bad = (reason: string): VmmError =>
    new VmmError('E_NETDEV', `onConnect of ${request.network} ${reason}`, {
      fields: { network: request.network },
    })
  if (decision === 'allow' || decision === 'refuse' || decision === 'drop') return decision
  if (typeof decision === 'object' && decision !== null) {
    if ('redirect' in decision) return redirected(decision.redirect, request, bad)
    if ('stream' in decision && typeof decision.stream === 'function') {
      if (request.protocol === 'udp') throw bad("decided 'stream' on UDP; 'datagrams' is for that")
      return streamed(decision.stream as (socket: Socket) => void)
    }
    if ('datagrams' in decision && typeof decision.datagrams === 'function') {
      if (request.protocol === 'tcp') throw bad("decided 'datagrams' on TCP; 'stream' is for that")
      return datagrams(decision.datagrams as (stream: Duplex) => void)
    }
    if ('fd' in decision && Number.isInteger(decision.fd)) return { fd: Number(decision.fd) }
  }
  throw bad(
    `decided ${JSON.stringify(decision)}: it is 'allow', 'refuse', 'drop', or an object with 'redirect', 'stream', ` +
      `'datagrams' or 'fd'`,
  )
}

function redirected(
  to: unknown,
  { protocol }: ConnectRequest,
  bad: (reason: string) => VmmError,
): Verdict {
  const { path, address, port } = (to ?? {}) as Record<string, unknown>
  if (typeof path === 'string' && path !== '') {
    if (protocol === 'tcp') return { redirect: { path } }
    throw bad(`redirected UDP to the UNIX socket '${path}'; an address and a port can be`)
  }
  const valid = typeof address === 'string' && (isIPv4(address) || isIPv6(address))
  if (valid && !address.includes('%') && Number.isInteger(port)) {
    const number = Number(port)
    if (number > 0 && number <= 65_535) return { redirect: { address, port: number } }
  }
  throw bad(`redirected to ${JSON.stringify(to)}: it is an IP address and a port, or a path`)
}

function streamed(begin: (socket: Socket) => void): Verdict {
  const { program, network } = tcpPair()
  const socket = new Socket({ fd: program, readable: true, writable: true, allowHalfOpen: true })
  // A guest may reset its connection at any time, also before somebody listens.
  socket.on('error', () => {})
  begin(socket)
  return { fd: network }
}

function datagrams(begin: (stream: Duplex) => void): Verdict {
  const pair = udpPair()
  begin(new DatagramStream(pair))
  return { fd: pair.network }
}

/** Closes what nobody wants to know any more: who has the other end learns that there is no network. */
export function closeVerdict(verdict: Verdict): void {
  if (typeof verdict === 'object' && 'fd' in verdict) closeSync(verdict.fd)
}

/** A verdict as the addon reads it. */
export function nativeAnswer(verdict: Verdict): NativeAnswer {
  if (typeof verdict === 'string') return { verdict }
  if ('fd' in verdict) return { verdict: 'fd', fd: verdict.fd }
  const to = verdict.redirect
  const place = 'path' in to ? `unix:${to.path}` : endpoint(to.address, to.port)
  return { verdict: 'redirect', to: place }
}

/** A question of the addon's as the hook reads it. */
export function connectRequest(network: string, question: NativeQuestion): ConnectRequest {
  const protocol = question.udp ? 'udp' : 'tcp'
  return { network, protocol, from: parsed(question.guest), to: parsed(question.peer) }
}

function parsed(text: string): Endpoint {
  const colon = text.lastIndexOf(':')
  return {
    address: text.slice(0, colon).replaceAll(/[[\]]/g, ''),
    port: Number(text.slice(colon + 1)),
  }
}
