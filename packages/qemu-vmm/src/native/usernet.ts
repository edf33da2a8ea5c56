/** The addon's user-mode network. */

import type { ReturnedRings, RingLoan } from 'virtio'

import { addon } from './addon.ts'

/** Options of a network: addresses as text, checked before. */
export interface UserNetOptions {
  ipv4?: { net: string; prefix: number; host: string; dns: string; dhcpStart: string }
  ipv6?: { net: string; prefix: number; host: string; dns: string }
  restrict: boolean
  hostname?: string
  domainname?: string
  dnssearch: string[]
  tftp?: string
  tftpServerName?: string
  bootfile?: string
  /** Each `ADDRESS:PORT`; the host's when there are none. */
  nameServers: string[]
  /** `to` is `unix:PATH` or `ADDRESS:PORT`. */
  guestForwards: { udp: boolean; at: string; to?: string }[]
  seed: number
  ask: boolean
}

/** A port of the host that leads into the guest. */
export interface NativeForward {
  udp: boolean
  /** `unix:PATH` or `ADDRESS:PORT`. */
  host: string
  guest: string
}

/** How much of a network is in use. */
export interface UserNetUsage {
  /** TCP connections. */
  tcp: number
  /** Bytes of their buffers. */
  tcpMemory: number
  /** Ports of UDP that the guest uses. */
  udp: number
}

/** A connection that waits for an answer; `guest` and `peer` are each `ADDRESS:PORT`. */
export interface NativeQuestion {
  id: number
  udp: boolean
  guest: string
  peer: string
}

/** What becomes of it. */
export interface NativeAnswer {
  verdict: 'allow' | 'refuse' | 'drop' | 'redirect' | 'fd'
  /** Of `redirect`: `unix:PATH` or `ADDRESS:PORT`. */
  to?: string
  /** Of `fd`: a connected socket, which the network closes. */
  fd?: number
}

/** Descriptors of two connected sockets, and the port of the network's. */
export interface SocketPair {
  program: number
  network: number
  networkPort: number
}

/** What a saved machine has of a network. */
export interface NativeUserState {
  /** MAC addresses of those who have the addresses of DHCP, from the first on; empty for a free one. */
  leases: string[]
  /** Open connections of TCP; `guest` and `peer` are each `ADDRESS:PORT`, `card` is a MAC address. */
  connections: { guest: string; peer: string; card: string; sequence: number }[]
}

/** `ReturnedRings`, and the bytes of the batch that are used then. */
export type NativeReturned = ReturnedRings & { readonly used: number; readonly interrupts: number }

/** What the addon exports. Its Rust sources say what each call does. */
export interface NativeUserNet {
  watch(onReady: () => void): void
  /** New number of used bytes of `out`, or -1. */
  input(nowUs: number, batch: Uint8Array, out: Uint8Array, used: number): number
  /** Twice the new number of used bytes of `out`, and 1 more when there is more; or -1. */
  poll(nowUs: number, out: Uint8Array, used: number): number
  setAccepts(accepts: number): void
  addForward(forward: NativeForward): number
  forwardAddress(id: number): string | null
  removeForward(id: number): void
  questions(): NativeQuestion[]
  /** New number of used bytes of `out`, or -1. */
  answer(nowUs: number, id: number, answer: NativeAnswer, out: Uint8Array, used: number): number
  usage(): UserNetUsage
  /** Serves lent queues until `stop`; `calls` are those of `Vm.nativeCalls`. */
  serve(
    loan: Omit<RingLoan, 'calls' | 'mac'> & { mac: number[] },
    calls: unknown,
    nowUs: number,
  ): void
  /** False when lent queues have to go back. */
  kick(): boolean
  /** Lent queues have to go back. */
  readonly strange: boolean
  /** Ends `serve`; frames that were not delivered go behind the `used` bytes of `out`. Null when nothing is lent. */
  stop(out: Uint8Array, used: number): NativeReturned | null
  /** Null when the network is gone. */
  save(): NativeUserState | null
  load(state: NativeUserState): void
  close(): void
}

interface UserNetModule {
  UserNet: new (options: UserNetOptions) => NativeUserNet
  userTcpPair(): SocketPair
  userUdpPair(): SocketPair
}

/**
 * Makes a network.
 * @throws VmmError E_NO_ADDON when the addon was not built, or does not fit this platform
 */
export function createUserNet(options: UserNetOptions): NativeUserNet {
  return new (addon<UserNetModule>().UserNet)(options)
}

/** Two TCP sockets that are connected to each other. */
export function tcpPair(): SocketPair {
  return addon<UserNetModule>().userTcpPair()
}

/** Two UDP sockets; the network's is connected to the other. */
export function udpPair(): SocketPair {
  return addon<UserNetModule>().userUdpPair()
}
