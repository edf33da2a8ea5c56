import { BALLOON_STATS, createBalloon } from 'virtio'
import type { BalloonModel, BalloonStats, VirtioDevice } from 'virtio'

import type { ClockTimer } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { DeviceOption, DeviceProperty, DeviceType } from './device-type.ts'
import { virtioMemory } from './guest-memory.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'
import { virtioPciProperties, VirtioPciDevice } from './virtio-pci.ts'

/** It interrupts so rarely that QEMU gives it no MSI-X. */
const VECTORS = 0
const INTERVAL = 'guest-stats-polling-interval'
/** Seconds. */
const MAX_INTERVAL = 0xffff_ffff
/** What is told of a statistic that the guest has not told. */
const UNKNOWN = 2n ** 64n - 1n

/** The names of statistics in QEMU's object model. */
const STAT_NAMES: Readonly<Record<(typeof BALLOON_STATS)[number], string>> = {
  swapIn: 'stat-swap-in',
  swapOut: 'stat-swap-out',
  majorFaults: 'stat-major-faults',
  minorFaults: 'stat-minor-faults',
  freeMemory: 'stat-free-memory',
  totalMemory: 'stat-total-memory',
  availableMemory: 'stat-available-memory',
  diskCaches: 'stat-disk-caches',
  hugetlbAllocations: 'stat-htlb-pgalloc',
  hugetlbFailures: 'stat-htlb-pgfail',
}

/** The machine's balloon, if it has one. */
export interface BalloonSlot {
  model?: Pick<BalloonModel, 'actual' | 'wanted' | 'setWanted'>
}

export const virtioBalloonPci: DeviceType = {
  name: 'virtio-balloon-pci',
  bus: 'PCI',
  category: 'Misc devices',
  description: 'virtio memory balloon: the guest gives memory back while it runs',
  hotpluggable: true,
  properties: [
    {
      name: 'deflate-on-oom',
      type: 'bool',
      help: 'The guest may take memory back before it runs out of it',
      default: 'off',
    },
    {
      name: 'free-page-reporting',
      type: 'bool',
      help: 'The guest gives back what it does not use, without a balloon',
      default: 'off',
    },
    {
      name: 'page-poison',
      type: 'bool',
      help: 'The guest tells with which value it fills free pages',
      default: 'on',
    },
    ...virtioPciProperties(),
  ],
  plug(context, option) {
    const { balloon } = context
    if (balloon.model !== undefined) {
      throw new VmmError('E_DEVICE_OPTION', 'Only one balloon device is supported', {
        fields: { device: option.driver },
      })
    }
    const read = propertyReader(option)
    const name = option.id ?? option.driver
    const stats = new StatsPoll(context)
    const device = createBalloon({
      memory: virtioMemory(context.memory),
      deflateOnOom: read.bool('deflate-on-oom', false),
      freePageReporting: read.bool('free-page-reporting', false),
      pagePoison: read.bool('page-poison', true),
      discard: (gpa, length) => context.memory.discard(gpa, length),
      onActual: (pages) => context.balloonChanged(pages),
      onStats: (told) => stats.arrived(told),
      onFailure: (error) =>
        context.log(`${name}: memory is not given back to the host: ${String(error)}`),
      onError: (error) => context.log(`${name}: ${String(error)}`),
    })
    stats.model = device.model
    const plugged = new VirtioBalloonPci(context, option, device, stats)
    balloon.model = device.model
    return plugged
  },
}

class VirtioBalloonPci extends VirtioPciDevice {
  readonly properties: ReadonlyMap<string, DeviceProperty>
  readonly #stats: StatsPoll
  readonly #slot: BalloonSlot

  constructor(
    context: PlugContext,
    option: DeviceOption,
    device: VirtioDevice<BalloonModel>,
    stats: StatsPoll,
  ) {
    super(context, option, device, VECTORS)
    this.#stats = stats
    this.#slot = context.balloon
    this.properties = stats.properties
  }

  override close(): void {
    super.close()
    this.#stats.close()
    delete this.#slot.model
  }
}

/** Asks the guest for its statistics, again and again. */
class StatsPoll {
  model: BalloonModel | undefined
  readonly #context: Pick<PlugContext, 'clock'>
  #stats: BalloonStats = {}
  /** Seconds since 1970, or 0 before there are any. */
  #updated = 0
  /** Seconds; 0 for never. */
  #interval = 0
  #timer: ClockTimer | undefined

  constructor(context: Pick<PlugContext, 'clock'>) {
    this.#context = context
  }

  readonly properties: ReadonlyMap<string, DeviceProperty> = new Map<string, DeviceProperty>([
    ['guest-stats', { type: 'guest statistics', get: () => this.#told() }],
    [
      INTERVAL,
      { type: 'int', get: () => this.#interval, set: (value) => this.#setInterval(value) },
    ],
  ])

  arrived(stats: BalloonStats): void {
    this.#stats = stats
    this.#updated = Math.floor(this.#context.clock.wallMs() / 1000)
    if (this.#interval > 0) this.#arm(this.#interval)
  }

  close(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #told(): object {
    const stats = BALLOON_STATS.map((name) => [STAT_NAMES[name], this.#stats[name] ?? UNKNOWN])
    return { stats: Object.fromEntries(stats) as object, 'last-update': this.#updated }
  }

  #setInterval(value: unknown): void {
    const problem =
      typeof value !== 'number' || !Number.isInteger(value)
        ? `Invalid parameter type for '${INTERVAL}', expected: integer`
        : value < 0
          ? 'timer value must be greater than zero'
          : value > MAX_INTERVAL
            ? 'timer value is too big'
            : undefined
    if (problem !== undefined) {
      throw new VmmError('E_DEVICE_OPTION', problem, { fields: { property: INTERVAL } })
    }
    const before = this.#interval
    this.#interval = value as number
    if (this.#interval === before) return
    this.close()
    if (this.#interval > 0) this.#arm(before === 0 ? 0 : this.#interval)
  }

  #arm(seconds: number): void {
    const { clock } = this.#context
    this.#timer?.cancel()
    this.#timer = clock.setTimer(clock.nowNs() + seconds * 1e9, () => {
      // What comes arms it again; a guest that is not asked yet is asked later.
      this.#arm(this.#interval)
      this.model?.requestStats()
    })
  }
}
