import { FrameBatch } from 'virtio'
import type { LinkEnd, LinkSide, ReturnedRings, RingLoan, RingServer } from 'virtio'

import { VmmError } from '../../errors.ts'
import {
  createUserNet,
  type NativeUserNet,
  type NativeUserState,
  type UserNetOptions,
  type UserNetUsage,
} from '../../native/usernet.ts'
import { endpoint, isIPv6 } from './addresses.ts'
import { CommandServer, type GuestCommand } from './command-server.ts'
import type { ForwardChange, GuestForward, HostForward, UserNetConfig } from './config.ts'
import { checkHostForward } from './forwards.ts'
import { NO_USER_STATE, loadUserState } from './user-state.ts'
import { type Verdict, closeVerdict, connectRequest, decide, nativeAnswer } from './decision.ts'

/** `ACCEPTS_…` of headers: partial checksums, and TCP over IPv4 and IPv6 in one piece. */
export const USER_NET_ACCEPTS = 0b111
/** An Ethernet header and a packet of IPv4 or IPv6 of any length. */
export const USER_NET_MAX_FRAME = 65_550
/** Batches that are filled in one turn of the event loop; the rest waits for the next. */
const TURNS = 16

/** What a network is given besides its configuration. */
export interface UserNetHost {
  /** Microseconds of a clock that only goes forward. */
  nowUs(): number
  /** That is the host's clock, so native code can ask for it by itself. Then it may serve the queues of a card. */
  isHostTime?: boolean
  /** A number below 2^53 that the guest cannot guess. */
  seed: number
  /** Name servers instead of the host's, each `ADDRESS:PORT`. */
  nameServers?: readonly string[]
  /** Told of what the user should know. */
  report(message: string): void
}

/**
 * A network behind a router in this process, as the end of a link: NAT by ordinary sockets, so it needs no rights.
 * TCP/IP is the addon's; here frames go to and fro in batches.
 */
export class UserNet implements LinkEnd {
  readonly accepts: number = USER_NET_ACCEPTS
  readonly maxFrame: number = USER_NET_MAX_FRAME
  readonly #net: NativeUserNet
  readonly #config: UserNetConfig
  readonly #host: UserNetHost
  readonly #commands: CommandServer[] = []
  /** Ports that lead to the guest: their ids by protocol and place. */
  readonly #forwards = new Map<string, number>()
  readonly #out: FrameBatch = new FrameBatch()
  /** Where the records begin that the other end has not taken. */
  #from = 0
  #side: LinkSide | undefined
  #due: NodeJS.Immediate | undefined
  #open = true
  #sending = false
  /** Frames of the other end were left, as they came while it was sent some. */
  #owed = false
  /** Gives queues of the card back that were lent to the addon. */
  #giveBack: (() => void) | undefined
  #cannotServe = false

  /**
   * @throws VmmError E_NETDEV when a forwarded port cannot be had, E_NO_ADDON
   */
  constructor(config: UserNetConfig, host: UserNetHost) {
    this.#config = config
    this.#host = host
    const serve = (command: GuestCommand): string => {
      const server = new CommandServer(command, host.report)
      this.#commands.push(server)
      return server.path
    }
    try {
      this.#net = createUserNet(nativeOptions(config, host, serve))
    } catch (error) {
      this.#closeCommands()
      throw error
    }
    try {
      for (const forward of config.hostForwards) this.addHostForward(forward)
      this.#net.watch(() => this.#ready())
    } catch (error) {
      this.#net.close()
      this.#closeCommands()
      throw error
    }
  }

  /** Attaches it to one side of a link. */
  attach(side: LinkSide): void {
    this.#side = side
    side.attach(this)
    this.peerChanged()
  }

  /**
   * Opens a port of the host that leads into the guest; returns its number.
   * @throws VmmError E_NETDEV when it cannot be had
   */
  addHostForward(forward: HostForward): number {
    const { protocol, guest } = forward
    const place = hostPlace(forward)
    const inside = guest.address || (this.#config.ipv4?.dhcpStart ?? '')
    try {
      const id = this.#net.addForward({
        udp: protocol === 'udp',
        host: place,
        guest: endpoint(inside, guest.port),
      })
      this.#forwards.set(`${protocol}:${place}`, id)
      return id
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new VmmError(
        'E_NETDEV',
        `Could not set up host forwarding rule '${protocol}:${place}': ${reason}`,
        { fields: { hostfwd: place }, cause: error },
      )
    }
  }

  /** Where a forward listens, as `ADDRESS:PORT`; undefined for a UNIX socket. */
  forwardAddress(id: number): string | undefined {
    return this.#net.forwardAddress(id) ?? undefined
  }

  removeHostForward(id: number): void {
    this.#net.removeForward(id)
    for (const [place, other] of this.#forwards) if (other === id) this.#forwards.delete(place)
  }

  changeForwards(change: ForwardChange): void {
    if ('add' in change) {
      checkHostForward(this.#config, change.add)
      this.addHostForward(change.add)
      return
    }
    const { remove } = change
    // All addresses of the host are those of IPv6 where the guest's is one.
    const places = [hostPlace(remove), hostPlace(remove, true)]
    const id = places
      .map((place) => this.#forwards.get(`${remove.protocol}:${place}`))
      .find((found) => found !== undefined)
    if (id === undefined) {
      const place = `${remove.protocol}:${places[0]}`
      throw new VmmError('E_NETDEV', `host forwarding rule for ${place} not found`, {
        fields: { hostfwd: place },
      })
    }
    this.removeHostForward(id)
  }

  get usage(): UserNetUsage {
    return this.#net.usage()
  }

  receive(batch: FrameBatch, from: number): number {
    if (!this.#open) return batch.used
    if (this.#sending) {
      this.#owed = true
      return from
    }
    const frames = batch.bytes.subarray(from, batch.used)
    // Where answers find no room they are lost, as in any network: the guest never has to wait.
    const used = this.#net.input(this.#nowUs(), frames, this.#out.bytes, this.#out.used)
    if (this.#took(used)) this.#poll()
    this.#ask()
    return batch.used
  }

  resume(): void {
    this.#poll()
  }

  /** Nothing waits here, and nobody is asked about connections. */
  get canServeRings(): boolean {
    if (!this.#open || this.#cannotServe || this.#host.isHostTime !== true) return false
    return this.#config.onConnect === undefined && !this.#sending && this.#from >= this.#out.used
  }

  /** Has the addon serve the card's queues. */
  serveRings(loan: RingLoan, strange: () => void): RingServer | undefined {
    if (!this.canServeRings) return undefined
    const { calls, mac, ...rest } = loan
    try {
      this.#net.serve({ ...rest, mac: [...mac] }, calls, this.#nowUs())
    } catch (error) {
      // It works without, and would not the next time either.
      this.#cannotServe = true
      this.#host.report(
        `the network ${this.#config.id} is slower than it could be: ${String(error)}`,
      )
      return undefined
    }
    this.#giveBack = strange
    return {
      kick: () => {
        if (!this.#net.kick()) strange()
      },
      end: () => this.#stop(),
    }
  }

  /** Frames are lost while it is down; who sent them repeats them. */
  linkChanged(_up: boolean): void {}

  peerChanged(): void {
    this.#net.setAccepts((this.#side?.peerAccepts ?? 0) & USER_NET_ACCEPTS)
  }

  /** What a saved machine has of it: leases, and the ends of connections, which do not go on. */
  save(): NativeUserState {
    return this.#net.save() ?? { ...NO_USER_STATE }
  }

  /**
   * Goes on with the guest of a saved machine, whose connections are reset. The machine stands.
   * @throws VmmError E_STATE for what is no state, and nothing is changed then
   */
  load(state: unknown): void {
    if (!this.#open) return
    loadUserState(this.#config.id, this.#net, state)
    // What was on its way to the guest that was is lost.
    this.#from = 0
    this.#out.clear()
    this.#poll()
  }

  /** Closes all sockets. */
  close(): void {
    if (!this.#open) return
    this.#giveBack?.()
    this.#open = false
    if (this.#due !== undefined) clearImmediate(this.#due)
    this.#side?.detach()
    this.#net.close()
    this.#closeCommands()
  }

  #closeCommands(): void {
    for (const server of this.#commands.splice(0)) server.close()
  }

  /** Asks the hook about connections that wait for it. */
  #ask(): void {
    const { onConnect, id } = this.#config
    if (onConnect === undefined || !this.#open) return
    for (const question of this.#net.questions()) {
      decide(onConnect, connectRequest(id, question))
        .then((verdict) => this.#answer(question.id, verdict))
        .catch((error: unknown) => {
          const reason = error instanceof Error ? error.message : String(error)
          this.#host.report(`a connection was refused: ${reason}`)
          this.#answer(question.id, 'refuse')
        })
    }
  }

  #answer(id: number, verdict: Verdict): void {
    if (!this.#open) return closeVerdict(verdict)
    const { bytes, used: before } = this.#out
    const used = this.#net.answer(this.#nowUs(), id, nativeAnswer(verdict), bytes, before)
    if (this.#took(used)) this.#poll()
    this.#ask()
  }

  #nowUs(): number {
    return Math.floor(this.#host.nowUs())
  }

  /** Whether the network still exists after a call of it that returned this. */
  #took(used: number): boolean {
    if (used >= 0) {
      if (used !== this.#out.used) this.#out.adopt(used)
      return true
    }
    if (this.#open) {
      this.#open = false
      this.#host.report(`the network ${this.#config.id} met a defect and is gone`)
    }
    return false
  }

  #stop(): ReturnedRings {
    this.#giveBack = undefined
    const returned = this.#net.stop(this.#out.bytes, this.#out.used)
    if (returned === null) throw new VmmError('E_NETDEV', 'the queues of a card were not lent')
    this.#out.adopt(returned.used)
    return returned
  }

  /** The addon has something that it does not do by itself. */
  #ready(): void {
    if (this.#net.strange) this.#giveBack?.()
    this.#poll()
  }

  /** Lets the network do what there is to do, and sends what it has for the guest. */
  #poll(): void {
    for (let turn = 0; turn < TURNS; turn++) {
      // Who serves the card's queues does this as well.
      if (!this.#open || this.#sending || this.#giveBack !== undefined) return
      const waits = !this.#flush()
      // Also when the other end takes nothing: what sockets have to say must be heard, or they say it again.
      const result = this.#net.poll(this.#nowUs(), this.#out.bytes, this.#out.used)
      if (!this.#took(result < 0 ? -1 : result >> 1)) return
      if (waits) return
      if ((result & 1) === 0) {
        this.#flush()
        return
      }
    }
    this.#due ??= setImmediate(() => {
      this.#due = undefined
      this.#poll()
    })
  }

  /** Sends what is in the batch; false when the other end did not take all: it resumes this. */
  #flush(): boolean {
    const out = this.#out
    if (this.#from < out.used && this.#side !== undefined) {
      this.#sending = true
      try {
        this.#from = this.#side.send(out, this.#from)
      } finally {
        this.#sending = false
      }
      if (this.#owed) {
        this.#owed = false
        queueMicrotask(() => this.#side?.ready())
      }
      if (this.#from < out.used) return false
    }
    this.#from = 0
    out.clear()
    return true
  }
}

/** `serve` starts the server of a command, and returns its path. */
function nativeOptions(
  config: UserNetConfig,
  host: UserNetHost,
  serve: (command: GuestCommand) => string,
): UserNetOptions {
  const { ipv4, ipv6, restrict, hostname, domainname, dnssearch, tftp, bootfile } = config
  return {
    ...(ipv4 && { ipv4 }),
    ...(ipv6 && { ipv6 }),
    restrict,
    ...(hostname !== undefined && { hostname }),
    ...(domainname !== undefined && { domainname }),
    dnssearch,
    ...(tftp !== undefined && { tftp }),
    ...(config.tftpServerName !== undefined && { tftpServerName: config.tftpServerName }),
    ...(bootfile !== undefined && { bootfile }),
    nameServers: [...(host.nameServers ?? [])],
    guestForwards: config.guestForwards.map(({ protocol, address, port, to }) => ({
      udp: protocol === 'udp',
      at: endpoint(address, port),
      to: placeOf(to, serve),
    })),
    seed: host.seed,
    ask: config.onConnect !== undefined,
  }
}

function placeOf(to: GuestForward['to'], serve: (command: GuestCommand) => string): string {
  if ('command' in to) return `unix:${serve(to)}`
  return 'path' in to ? `unix:${to.path}` : endpoint(to.address, to.port)
}

/** Where a forward listens: all of the host's addresses are of the guest's family. */
function hostPlace(
  { host, guest }: Pick<HostForward, 'host'> & Partial<Pick<HostForward, 'guest'>>,
  six: boolean = isIPv6(guest?.address ?? ''),
): string {
  if ('path' in host) return `unix:${host.path}`
  return endpoint(host.address || (six ? '::' : '0.0.0.0'), host.port)
}
