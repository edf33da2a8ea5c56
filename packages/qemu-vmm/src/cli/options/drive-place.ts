import { machineKind } from '../../machine/machine-type.ts'
import { CliError } from '../cli-error.ts'
import type { Settings } from '../settings.ts'
import type { Interface } from './drive.ts'

/** Places of the machine's own disk controller: units of a bus, and of all buses. */
export interface IdeLayout {
  units: number
  places: number
}

/** `pc` has two channels with two units each, `q35` six ports with one. */
export function ideLayout({ machine }: Pick<Settings, 'machine'>): IdeLayout {
  // What is none has no drives, which is said of it later.
  const isQ35 = machine !== 'none' && machineKind({ type: machine }).board === 'q35'
  return isQ35 ? { units: 1, places: 6 } : { units: 2, places: 4 }
}

/** Flash chips: the firmware, and its variables. */
const FLASH_CHIPS = 2
const FLOPPIES = 2
const MAX_INDEX = 10_000

/** The number of the disk on its interface, which `index=`, or `bus=` and `unit=`, may name. */
export function findPlace(
  settings: Settings,
  kind: Interface,
  values: ReadonlyMap<string, string>,
): number {
  const number = (key: string, limit: number): number | undefined => {
    const value = values.get(key)
    if (value === undefined) return undefined
    if (!/^\d{1,4}$/.test(value)) {
      throw new CliError(`Parameter '${key}' expects a number, not '${value}'`)
    }
    if (Number(value) >= limit) throw new CliError(`${key} ${value} too big (max is ${limit - 1})`)
    return Number(value)
  }
  const index = (limit: number): number | undefined => {
    const found = number('index', limit)
    if (found !== undefined && (values.has('bus') || values.has('unit'))) {
      throw new CliError('index cannot be used with bus and unit')
    }
    return found
  }
  if (kind === 'ide') return idePlace(settings, index, number)
  if (kind === 'pflash') {
    number('bus', 1)
    const wanted = index(FLASH_CHIPS) ?? number('unit', FLASH_CHIPS)
    return freePlace(wanted, FLASH_CHIPS, (at) => settings.flash[at] === undefined, {
      taken: (at) => `drive with bus=0, unit=${at} (index=${at}) exists`,
      full: `the machine has ${FLASH_CHIPS} flash chips`,
    })
  }
  if (kind === 'floppy') {
    number('bus', 1)
    const taken = floppyUnits(settings)
    return freePlace(
      index(FLOPPIES) ?? number('unit', FLOPPIES),
      FLOPPIES,
      (at) => !taken.has(at),
      {
        taken: (at) => `drive with bus=0, unit=${at} (index=${at}) exists`,
        full: `the machine has ${FLOPPIES} floppy drives`,
      },
    )
  }
  const other = ['bus', 'unit'].find((key) => values.has(key))
  if (other !== undefined) throw new CliError(`Parameter '${other}' needs if=ide or if=pflash`)
  return index(MAX_INDEX) ?? settings.drives.filter(({ id }) => id.startsWith(kind)).length
}

function idePlace(
  settings: Settings,
  indexOf: (limit: number) => number | undefined,
  number: (key: string, limit: number) => number | undefined,
): number {
  const { units, places } = ideLayout(settings)
  const index = indexOf(places)
  const bus = number('bus', places / units)
  const unit = number('unit', units)
  const wanted = index ?? (unit === undefined ? undefined : (bus ?? 0) * units + unit)
  const taken = takenPlaces(settings)
  const isFree = (place: number): boolean =>
    !taken.has(place) && (bus === undefined || Math.floor(place / units) === bus)
  return freePlace(wanted, places, isFree, {
    taken: (at) =>
      `drive with bus=${Math.floor(at / units)}, unit=${at % units} (index=${at}) exists`,
    full: 'the IDE controller has no place left; use if=virtio',
  })
}

/** Which floppy drives `-drive` has filled. */
export function floppyUnits({ driveDevices }: Pick<Settings, 'driveDevices'>): Set<number> {
  const floppies = driveDevices.filter(({ driver }) => driver === 'floppy')
  return new Set(floppies.map(({ properties }) => Number(properties['unit'])))
}

function freePlace(
  wanted: number | undefined,
  places: number,
  isFree: (place: number) => boolean,
  messages: { taken(place: number): string; full: string },
): number {
  if (wanted !== undefined) {
    if (isFree(wanted)) return wanted
    throw new CliError(messages.taken(wanted))
  }
  for (let place = 0; place < places; place++) if (isFree(place)) return place
  throw new CliError(messages.full)
}

/** Which places at the machine's own disk controller `-drive` has filled. */
export function takenPlaces(settings: Pick<Settings, 'driveDevices' | 'machine'>): Set<number> {
  const { units } = ideLayout(settings)
  const taken = new Set<number>()
  for (const { driver, properties } of settings.driveDevices) {
    if (!driver.startsWith('ide-')) continue
    taken.add(Number(properties['bus']?.slice(4)) * units + Number(properties['unit']))
  }
  return taken
}
