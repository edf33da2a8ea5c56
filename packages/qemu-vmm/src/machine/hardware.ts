import type { BootImage } from '../boot/loader.ts'
import type { DeviceDefinition, Entropy } from '../device.ts'
import type { DeviceOption, PluggedDevice } from '../devices/device-type.ts'
import { cpuTypeName, isCpuType } from '../devices/processor.ts'
import { VmmError } from '../errors.ts'
import type { Netdevs } from '../net/netdevs.ts'
import { defaultMac } from '../devices/mac-address.ts'
import type { ObjectConfig } from '../objects/config.ts'
import type { ObjectRegistry } from '../objects/registry.ts'
import type { VmHandles } from './assemble.ts'
import { biosOf } from './bios-of.ts'
import { setUpBoard } from './board-setup.ts'
import { DEFAULT_BOOT_ORDER, setBootCmos } from './boot-options.ts'
import { ChardevLinks } from './chardev-links.ts'
import { HostClock } from './clock.ts'
import type { MachineClock } from './clock.ts'
import type { MachineConfig } from './config.ts'
import { CpuPlaces } from './cpu-places.ts'
import { DeviceRams } from './device-ram.ts'
import type { DeviceTree } from './device-tree.ts'
import type { DriveConfig } from './drive-config.ts'
import type { Drives } from './drives.ts'
import type { DriveInfo } from './drive.ts'
import { hostEntropy } from './entropy.ts'
import { type HardwareRequests, openParts } from './hardware-parts.ts'
import { mapFlash } from './flash-chips.ts'
import type { FlashImage } from './flash-image.ts'
import { loadGuest, wakeGuest } from './guest-loader.ts'
import type { GuestParts } from './guest-loader.ts'
import { IoEvents } from './io-events.ts'
import { IrqLines } from './irq.ts'
import { Management } from './management.ts'
import { machineKind } from './machine-type.ts'
import { checkState, loadMachine, saveMachine } from './machine-state.ts'
import type { MachineState, StateParts } from './machine-state.ts'
import { connectPit } from './firmware-chips.ts'
import { createMemoryMap } from './memory-map.ts'
import type { MemoryMap } from './memory-map.ts'
import type { PcBoard } from './pc.ts'
import { portRoutes } from './port-routes.ts'
import { Processors, withoutProcessors } from './processors.ts'
import { RunLoop } from './run-loop.ts'
import { ShadowMemory } from './shadow-memory.ts'
import { smmOf } from './smram.ts'
import { captureStandstill, leaveStandstill } from './standstill.ts'
import type { Standstill } from './standstill.ts'
import { runsFirmware } from './runs-firmware.ts'
import { resolveTopology } from './topology.ts'

/** `KVM_MP_STATE_UNINITIALIZED`: waits for its start-up interrupt. */
const MP_STATE_UNINITIALIZED = 1
const PAGE_BYTES = 4096

/**
 * CPUs, memory, interrupt controllers, devices and their clocks: what stands still and goes on as
 * one. It stands when it is created.
 */
export class Hardware {
  readonly handles: VmHandles
  readonly board: PcBoard
  /** Networks that devices are connected to. */
  readonly networks: Netdevs
  readonly management: Management
  readonly #config: MachineConfig
  readonly #map: MemoryMap
  readonly places: CpuPlaces
  readonly #objects: ObjectRegistry
  readonly #clock: MachineClock
  readonly #entropy: Entropy
  readonly #chips: readonly PluggedDevice[]
  readonly #tree: DeviceTree
  readonly #processors: Processors
  readonly #drives: Drives
  readonly #boot: BootImage | undefined
  readonly #loop: RunLoop
  readonly #irqs: IrqLines
  readonly #deviceRams: DeviceRams
  readonly #msrs: readonly number[]
  readonly #powerOn: Standstill
  #threadsStarted = false
  /** It has never run, and no state was loaded: what was plugged in is there from the start. */
  #isNew = true
  /** What the machine goes on from; undefined while it runs. */
  #standstill: Standstill | undefined

  constructor(
    config: MachineConfig,
    devices: readonly DeviceDefinition[],
    drives: Drives,
    flash: readonly FlashImage[],
    requests: HardwareRequests,
  ) {
    this.#config = config
    this.#drives = drives
    const { name, board: kind } = machineKind(config.machine)
    this.#map = createMemoryMap(config.memory, kind)
    const places = (this.places = new CpuPlaces(resolveTopology(config.cpus ?? 1, name)))
    const model = config.cpu?.model ?? 'qemu64'
    let anonymous = 0
    const anonymousPath = (): string => `/machine/peripheral-anon/device[${anonymous++}]`
    const plug = withoutProcessors(config.plug ?? [], places, model, anonymousPath)
    this.#entropy = config.entropy ?? hostEntropy
    const bios = runsFirmware(config) ? biosOf(config, flash) : undefined
    const opened = openParts(config, this.#map, places, this.#entropy, requests.log)
    this.#boot = opened.boot
    this.networks = opened.networks
    const objects = (this.#objects = opened.objects)
    this.handles = opened.handles
    const { kvm, vm, vcpus } = this.handles
    let cards = 0
    this.#clock = config.clock ?? new HostClock(() => Number(vm.getClock().clock))
    this.#irqs = new IrqLines((gsi, level) => vm.irqLine(gsi, level))
    this.#irqs.hold()
    this.#msrs = kvm.getMsrIndexList()
    const chardevs = new ChardevLinks(config)
    const ioEvents = new IoEvents(vm)
    this.#deviceRams = new DeviceRams(vm)
    try {
      const { board, chips, tree } = setUpBoard({
        config: { ...config, plug },
        cpuid: vcpus[0]!.getCpuid2(),
        devices,
        irqs: this.#irqs,
        clock: this.#clock,
        entropy: this.#entropy,
        map: this.#map,
        cpus: places.topology.cpus,
        places,
        anonymousPath,
        objects,
        shadow: new ShadowMemory(vm, this.handles.ram, bios, flash.length > 0),
        ...smmOf(config, this.handles, this.#map, this.#deviceRams, flash.length > 0),
        flash: (bus) => mapFlash(vm, bus, flash, config, requests.log),
        memory: vm.memory,
        createVideoMemory: (size) => this.#deviceRams.create(size),
        ioEvents,
        nativeCalls: vm.nativeCalls(),
        ...portRoutes(vm),
        // What is sent while the machine stands would be lost with the state that it goes on from.
        sendMessage: (address, data) => {
          if (!this.#irqs.isHeld) vm.signalMsi(address, data)
          return !this.#irqs.isHeld
        },
        drives,
        chardev: (id, owner) => chardevs.take(id, owner),
        releaseChardev: (id) => chardevs.release(id),
        netdev: (id, card) => this.networks.take(id, card),
        releaseNetdev: (id) => this.networks.release(id),
        nextMac: () => defaultMac(cards++),
        deleted: requests.deleted,
        balloonChanged: (pages) => requests.balloonChanged(config.memory - pages * PAGE_BYTES),
        setPit: (connected) => {
          if (config.machine?.options?.pit !== false) connectPit(vm, connected)
        },
        actions: requests,
        log: requests.log,
        panic: { panicked: requests.panic, crashLoaded: requests.crashLoaded },
        exit: requests.exit,
      })
      this.networks.warn()
      this.board = board
      this.#chips = chips
      this.#tree = tree
      const parts = { board, tree, drives, places, objects, cpuType: cpuTypeName(model) }
      this.management = new Management(config.memory, this.handles, parts)
      this.#loop = new RunLoop(board.bus, {
        ...requests,
        nowMs: () => performance.now(),
        ioevent: (id) => ioEvents.signalled(id),
      })
      this.#loop.attach(vm)
      this.#powerOn = this.#capture()
      this.#processors = new Processors({
        places,
        model,
        handles: this.handles,
        board,
        msrs: this.#msrs,
        powerOn: this.#powerOn,
        isTaken: (id) => tree.has(id),
        anonymousPath,
        deleted: requests.deleted,
        log: requests.log,
      })
      board.chipset.cpuHotplug.onOst = (report) => requests.ost(report)
      this.loadGuest()
    } catch (error) {
      void this.release()
      throw error
    }
  }

  /** The reset button of hardware that stands. */
  async reset(): Promise<void> {
    await this.#resetPlugged()
    const { once, order = DEFAULT_BOOT_ORDER } = this.#config.boot ?? {}
    if (once !== undefined) setBootCmos(this.board.rtc, order)
    this.loadGuest()
  }

  /** Suspend to RAM, of hardware that stands: no processor goes on when it runs. */
  suspend(): void {
    for (const vcpu of this.handles.vcpus) vcpu.setMpState(MP_STATE_UNINITIALIZED)
  }

  /** The end of it: everything but memory is reset, and the guest goes on at its waking vector. */
  async wake(): Promise<void> {
    const cause = this.board.pm.wakeCause
    await this.#resetPlugged()
    this.#load(wakeGuest)
    this.board.pm.woken(cause)
  }

  /** Power-on state of everything, then what firmware and boot loader leave behind. */
  loadGuest(): void {
    this.#load(loadGuest)
  }

  #load(how: (parts: GuestParts) => void): void {
    const clock = this.#standstill?.clock ?? this.#powerOn.clock
    how({
      clock,
      config: this.#config,
      ...this.handles,
      board: this.board,
      map: this.#map,
      places: this.places,
      boot: this.#boot,
      entropy: this.#entropy,
      powerOn: this.#powerOn,
    })
    this.#irqs.settle()
    this.#standstill = this.#capture(clock)
  }

  /** Goes on from where it stands. */
  run(): void {
    const { vm, vcpus } = this.handles
    if (this.#standstill !== undefined) leaveStandstill(vm, vcpus, this.#standstill)
    this.#standstill = undefined
    this.#isNew = false
    this.#irqs.release()
    this.#clock.resume()
    this.#drives.retry()
    this.board.resume()
    for (const device of this.#plugged) device.resume?.()
    for (const vcpu of vcpus) vcpu[vcpu.state === 'idle' ? 'start' : 'resume']()
    this.#threadsStarted = true
  }

  /** Stops the vCPUs and guest time. Does nothing when they stand already. */
  async park(): Promise<void> {
    if (!this.#threadsStarted) return
    await Promise.all([...this.handles.vcpus.map((vcpu) => vcpu.pause()), this.#processors.left()])
    this.#loop.drain()
    if (this.#standstill !== undefined) return
    for (const device of this.#plugged) device.pause?.()
    this.#irqs.hold()
    this.#standstill = this.#capture()
  }

  /** The state of hardware that stands. */
  async save(): Promise<MachineState> {
    // Their completions belong to the state: it would have requests that nobody answers.
    this.#checkDrives()
    await this.#quiesce()
    return saveMachine(this.#stateParts())
  }

  /** Throws `E_STATE` for a state that cannot be this machine's, and nothing is changed then. */
  checkState(state: MachineState): void {
    checkState(this.#stateParts(), state)
  }

  /** Replaces the state of hardware that stands; after an error it must be reset. */
  async load(state: MachineState): Promise<void> {
    this.#drives.abandon()
    await this.#quiesce()
    this.#isNew = false
    await this.#processors.become(state.processors)
    this.#standstill = loadMachine(this.#stateParts(), state)
  }

  /** Opens what devices refer to. Rejects as at the start. */
  async addBackend(backend: { drive: DriveConfig } | { object: ObjectConfig }): Promise<void> {
    if ('drive' in backend) await this.#drives.add(backend.drive)
    else this.#objects.add(backend.object)
  }

  /** Closes it, once no device has it. */
  async removeBackend(kind: 'drive' | 'object', id: string): Promise<void> {
    if (kind === 'drive') await this.#drives.remove(id)
    else this.#objects.remove(id)
  }

  get drives(): DriveInfo[] {
    return this.#drives.list()
  }

  /** Options that make the devices that are plugged in now. */
  get devices(): DeviceOption[] {
    return [...this.#processors.options(), ...this.#tree.options()]
  }

  /** Plugs a device in, whether the hardware runs or stands; a processor only when it stands. */
  async addDevice(option: DeviceOption): Promise<void> {
    if (!isCpuType(option.driver)) {
      this.#processors.checkId(option.id)
      await this.#tree.add(option)
      return
    }
    await this.#processors.add(option, this.#standstill!)
    if (this.#isNew) this.loadGuest()
  }

  /** Asks the guest to let go of a device. */
  requestRemoval(id: string): void {
    if (!this.#processors.requestRemoval(id)) this.#tree.requestRemoval(id)
  }

  /** Counters of the devices, one after another. */
  deviceStats(): Record<string, number>[] {
    return this.#plugged.map((device) => device.stats?.() ?? {})
  }

  /** Stops guest time for good. */
  stopClock(): void {
    this.#clock.pause()
  }

  /** Ends everything, also after a constructor that failed half-way. */
  async release(): Promise<void> {
    const { kvm, vm, vcpus } = this.handles
    const all = [...vcpus, ...(this.#processors?.spares ?? [])]
    if (this.#threadsStarted) await Promise.all(all.map((vcpu) => vcpu.stop()))
    this.board?.close()
    this.#drives.abandon()
    await this.#quiesce()
    for (const device of this.#plugged) device.close?.()
    await this.#drives.close()
    this.#loop?.close()
    this.#deviceRams.close()
    this.#objects.close()
    this.networks.close()
    this.#boot?.close()
    await vm.close()
    kvm.close()
  }

  #checkDrives(): void {
    const waiting = this.#drives.waiting
    if (waiting === undefined) return
    throw new VmmError(
      'E_INVALID_STATE',
      `requests to drive ${waiting} failed and wait; mend the cause and resume the machine first`,
      { fields: { drive: waiting } },
    )
  }

  async #resetPlugged(): Promise<void> {
    // What a disk still reads would land in the memory of the guest that goes on next.
    for (const device of this.#plugged) device.reset()
    this.#drives.abandon()
    await this.#quiesce()
  }

  async #quiesce(): Promise<void> {
    await Promise.all(Array.from(this.#plugged, (device) => device.quiesce?.()))
    await this.#tree?.left()
  }

  /** Flash chips and what options plugged in; none after a constructor that failed half-way. */
  get #plugged(): readonly PluggedDevice[] {
    return [...(this.#chips ?? []), ...(this.#tree?.devices() ?? [])]
  }

  /** The state of the parked hardware. All clocks are stopped at the same moment. */
  #capture(clock?: bigint): Standstill {
    const { vm, vcpus } = this.handles
    this.#clock.pause()
    const moment = clock ?? vm.getClock().clock
    if (this.#config.clock === undefined) this.#clock.set(Number(moment))
    return captureStandstill(vm, vcpus, this.#msrs, moment)
  }

  #stateParts(): StateParts {
    return {
      ...this.handles,
      board: this.board,
      processors: this.#processors,
      networks: this.networks,
      clock: this.#clock,
      map: this.#map,
      standstill: this.#standstill ?? this.#powerOn,
    }
  }
}
