import type { NetworkInterface } from '../generated/model.ts'
import { refusal } from '../refuse.ts'
import type { Command, Keys } from './command.ts'
import { notYet } from './command.ts'

/** A direction of `<bandwidth>`; the queue is what the emulator calls it. */
export const DIRECTIONS = [
  { name: 'inbound', queue: 'tx' },
  { name: 'outbound', queue: 'rx' },
] as const
export type Direction = (typeof DIRECTIONS)[number]['name']

/** What one direction of a card has; rates are in KiB per second, the burst is in KiB. */
export interface Flow {
  average?: number
  peak?: number
  burst?: number
  floor?: number
}

const BYTES = 1024

/** The name of the object that keeps a direction of a card to its rate. */
export function throttleId(card: Pick<NetworkInterface, 'alias'>, direction: Direction): string {
  return `${direction}-${card.alias?.name ?? ''}`
}

/**
 * The objects that keep a card to its `<bandwidth>`: `filter-throttle` of our emulator. Others have none; that they go without
 * is a warning, as from libvirt, which cannot limit networks in user mode either.
 *
 * @throws XmlError for what no network here can keep
 */
export function throttlesOf(card: NetworkInterface, path: string): { id: string; keys: Keys }[] {
  return DIRECTIONS.flatMap(({ name, queue }) => {
    const flow: Flow | undefined = card.bandwidth?.[name]
    if (flow === undefined) return []
    const place = `${path}/bandwidth/${name}`
    if (flow.floor !== undefined && flow.floor > 0) {
      throw notYet(
        `${place}/@floor`,
        'each guest has a network in user mode to itself, so nothing is to be shared',
      )
    }
    const { average = 0, peak = 0, burst = 0 } = flow
    if (average === 0) {
      if (peak === 0 && burst === 0) return []
      throw refusal(`Missing mandatory average attribute of ${name}`, { at: card, below: place })
    }
    if (peak > 0 && peak < average) {
      const text = `${name} peak ${peak} KiB/s is less than the average, ${average} KiB/s`
      throw refusal(text, { at: card, below: place })
    }
    const keys: Keys = {
      netdev: `host${card.alias?.name ?? ''}`,
      queue,
      average: average * BYTES,
      ...(peak > 0 ? { peak: peak * BYTES } : {}),
      ...(burst > 0 ? { burst: burst * BYTES } : {}),
    }
    return [{ id: throttleId(card, name), keys }]
  })
}

/** Adds what limits a card, behind its network. */
export function addThrottles(command: Command, card: NetworkInterface, path: string): void {
  const throttles = throttlesOf(card, path)
  if (throttles.length > 0 && !command.features.netThrottle) {
    const reason = 'this emulator cannot limit networks in user mode, qemu-kvm can'
    command.result.warnings.push(`${path}/bandwidth is not kept: ${reason}`)
    return
  }
  for (const { id, keys } of throttles) {
    command.addKeys('-object', 'filter-throttle', { id, ...keys })
  }
}
