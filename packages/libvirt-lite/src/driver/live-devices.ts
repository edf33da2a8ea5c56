import {
  DIRECTIONS,
  deviceByAlias,
  plugOf,
  throttleId,
  throttlesOf,
  withDevice,
  withoutDevice,
} from '../domain/index.ts'
import type { AnyDevice, DeviceDescription, DomainOptions } from '../domain/index.ts'
import type { Disk } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Domain } from './domain.ts'
import { LiveVcpus } from './live-vcpus.ts'
import { factsOf, featuresFor, translate } from './model.ts'
import type { DomainDefinition, DomainFacts } from './model.ts'

/** A guest that has not let go of a device by then is not waited for: it may do so at any time later. */
const UNPLUG_MS = 5000

/** What is plugged into a running domain, and out of it. */
export class LiveDevices {
  readonly #domain: Domain
  readonly #check: (domain: Domain, facts: DomainFacts) => void
  readonly #removed: (alias: string) => void
  /** Processors, which are devices as well. */
  readonly vcpus: LiveVcpus
  readonly #waiting = new Map<string, (isGone: boolean) => void>()

  constructor(
    domain: Domain,
    {
      check,
      removed,
    }: {
      /** Throws for what the domain must not have. */
      check(domain: Domain, facts: DomainFacts): void
      removed(alias: string): void
    },
  ) {
    this.#domain = domain
    this.vcpus = new LiveVcpus(domain)
    this.#check = check
    this.#removed = removed
  }

  /**
   * Plugs a device in.
   *
   * @returns its alias; rejects with `VirtError`, with nothing changed
   */
  async attach(description: DeviceDescription, options: DomainOptions): Promise<string> {
    const { machine, live } = this.#domain
    const { definition, device } = translate(() =>
      withDevice(live!, description, { ...options, isRunning: true }),
    )
    const facts = factsOf(definition as DomainDefinition)
    const features = await featuresFor(facts.emulator)
    const plug = translate(() =>
      plugOf(definition, description.key, device, {
        qmpSocket: '',
        stateDir: machine.folder,
        features,
      }),
    )
    refuseNewControllers(live!, definition as DomainDefinition)
    this.#check(this.#domain, facts)
    const node = plug.blockdev?.['node-name']
    const net = plug.netdev?.['id']
    const objects: unknown[] = []
    if (plug.blockdev !== undefined) await machine.execute('blockdev-add', plug.blockdev)
    try {
      if (plug.netdev !== undefined) await machine.execute('netdev_add', plug.netdev)
      for (const object of plug.objects) {
        await machine.execute('object-add', object)
        objects.push(object['id'])
      }
      await machine.execute('device_add', plug.device)
    } catch (error) {
      if (node !== undefined) await quietly(machine.execute('blockdev-del', { 'node-name': node }))
      for (const id of objects) await quietly(machine.execute('object-del', { id }))
      if (net !== undefined) await quietly(machine.execute('netdev_del', { id: net }))
      throw error
    }
    this.#domain.running(definition as DomainDefinition)
    return device.alias!.name
  }

  /** Asks the guest to let go of a device, and waits a while for it. Rejects with `VirtError` */
  async detach(device: AnyDevice): Promise<void> {
    const alias = device.alias!.name
    const gone = new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), UNPLUG_MS)
      this.#waiting.set(alias, (isGone) => {
        clearTimeout(timer)
        resolve(isGone)
      })
    })
    try {
      await this.#domain.machine.execute('device_del', { id: alias })
      await gone
    } finally {
      this.#waiting.get(alias)?.(false)
      this.#waiting.delete(alias)
    }
  }

  /** The emulator says that a device is gone. */
  async deleted(alias: string): Promise<void> {
    if (this.vcpus.deleted(alias)) return
    const { live } = this.#domain
    const place = live === undefined ? undefined : deviceByAlias(live, alias)
    if (place === undefined) return
    if (place.key === 'interfaces') {
      await this.#dropThrottles(alias)
      await quietly(this.#domain.machine.execute('netdev_del', { id: `host${alias}` }))
    } else if (place.key === 'disks') {
      // One of the command line went with its device.
      const node = { 'node-name': `drive-${alias}` }
      await quietly(this.#domain.machine.execute('blockdev-del', node))
    } else if (place.key === 'rngs') {
      await quietly(this.#domain.machine.execute('object-del', { id: `obj${alias}` }))
    }
    const now = this.#domain.live
    const at = now === undefined ? undefined : deviceByAlias(now, alias)
    if (at !== undefined) {
      this.#domain.running(withoutDevice(now!, at.key, at.index) as DomainDefinition)
      this.#removed(alias)
    }
    this.#waiting.get(alias)?.(true)
  }

  /** What the command line cannot say: processors to plug in, and cards whose cable is out. Rejects with `VirtError` */
  async atStart(): Promise<void> {
    await this.vcpus.atStart()
    for (const card of this.#domain.live?.devices?.interfaces ?? []) {
      if (card.link?.state === 'down') await this.#setLink(card, false)
    }
  }

  /** Plugs the cable of a card in or out. Rejects with `VirtError` */
  async changeLink(index: number, definition: DomainDefinition): Promise<void> {
    const card = definition.devices!.interfaces![index]!
    await this.#setLink(card, card.link?.state !== 'down')
    this.#domain.running(definition)
  }

  /** Keeps a card to the rates that `definition` has for it, from now on. Rejects with `VirtError` */
  async changeBandwidth(index: number, definition: DomainDefinition): Promise<void> {
    const { machine } = this.#domain
    const card = definition.devices!.interfaces![index]!
    const features = await featuresFor(factsOf(definition).emulator)
    if (!features.netThrottle) {
      throw new VirtError(
        ErrorCode.OPERATION_UNSUPPORTED,
        `Operation not supported: setting bandwidth on interfaces of type '${card.type}' is not implemented ` +
          'by this emulator: qemu-kvm can',
      )
    }
    const throttles = translate(() => throttlesOf(card, `/domain/devices/interface[${index + 1}]`))
    await this.#dropThrottles(card.alias!.name)
    for (const { id, keys } of throttles) {
      await machine.execute('object-add', { 'qom-type': 'filter-throttle', id, ...keys })
    }
    this.#domain.running(definition)
  }

  async #dropThrottles(alias: string): Promise<void> {
    for (const { name } of DIRECTIONS) {
      const id = throttleId({ alias: { name: alias } }, name)
      await quietly(this.#domain.machine.execute('object-del', { id }))
    }
  }

  async #setLink({ alias }: AnyDevice, up: boolean): Promise<void> {
    await this.#domain.machine.execute('set_link', { name: alias?.name, up })
  }

  /** What went while no daemon looked. */
  async reconcile(): Promise<void> {
    await this.vcpus.reconcile()
    const { machine, live } = this.#domain
    let names: Set<string>
    try {
      const list = await machine.execute('qom-list', { path: '/machine/peripheral' })
      names = new Set((list as { name: string }[]).map(({ name }) => name))
    } catch {
      // An emulator that cannot list them keeps what it was given.
      return
    }
    const { disks = [], interfaces = [], rngs = [] } = live?.devices ?? {}
    for (const { alias } of [...disks.filter(isVirtio), ...interfaces, ...rngs]) {
      if (alias !== undefined && !names.has(alias.name)) await this.deleted(alias.name)
    }
  }

  /**
   * Changes what is in a drive with exchangeable media. `force` opens a tray that the guest has locked. Rejects with
   * `VirtError`, with the medium as it was.
   */
  async changeMedium(
    index: number,
    description: DeviceDescription,
    definition: DomainDefinition,
    force: boolean,
  ): Promise<{ alias: string; from: string | undefined; to: string | undefined }> {
    const { live } = this.#domain
    const before = live!.devices!.disks![index]!
    const after = description.device as Disk
    const alias = before.alias!.name
    const path = ({ source }: Disk): string | undefined => source?.file ?? source?.dev
    const to = path(after)
    this.#check(this.#domain, factsOf(definition))
    if (to === undefined) await this.#medium('eject', { id: alias, force })
    else {
      await this.#medium('blockdev-change-medium', {
        id: alias,
        filename: to,
        format: after.driver?.type ?? 'raw',
        'read-only-mode': after.readonly === true ? 'read-only' : 'retain',
        ...(force ? { force } : {}),
      })
    }
    after.alias = { name: alias }
    this.#domain.running(definition)
    return { alias, from: path(before), to }
  }

  async #medium(command: string, args: object): Promise<void> {
    const { machine } = this.#domain
    const commands = (await machine.execute('query-commands')) as { name: string }[]
    if (!commands.some(({ name }) => name === command)) {
      throw new VirtError(
        ErrorCode.OPERATION_UNSUPPORTED,
        `Operation not supported: the emulator of '${this.#domain.name}' has no ${command}: ` +
          'stop the domain, and change the medium in its definition (--config)',
      )
    }
    await machine.execute(command, args)
  }
}

const isVirtio = ({ target }: Disk): boolean => target?.bus === 'virtio'

/** A bus for one more device cannot be added to a machine that runs. */
function refuseNewControllers(before: DomainDefinition, after: DomainDefinition): void {
  const count = ({ devices }: DomainDefinition): number => devices?.controllers?.length ?? 0
  if (count(before) === count(after)) return
  throw new VirtError(
    ErrorCode.INTERNAL_ERROR,
    'internal error: No more available PCI slots: give the definition a further pcie-root-port or bridge, and start it again',
  )
}

async function quietly(work: Promise<unknown>): Promise<void> {
  await work.catch(() => undefined)
}
