import { VmmError } from '../errors.ts'
import type { DeviceOption } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'

const FORM = /^[0-9a-f]{1,2}(?:[:-][0-9a-f]{1,2}){5}$/i

/**
 * The address of a network card: what its `mac` says, or QEMU's default with the card's number added.
 *
 * @throws VmmError `E_DEVICE_OPTION` for text that is no address, and for that of a group
 */
export function macAddress(
  context: Pick<PlugContext, 'nextMac'>,
  option: DeviceOption,
): Uint8Array {
  const text = option.properties['mac']
  if (text === undefined) return context.nextMac()
  const name = option.id ?? option.driver
  if (!FORM.test(text)) {
    throw new VmmError(
      'E_DEVICE_OPTION',
      `Property '${name}.mac' doesn't take value '${text}': it is six bytes, as 52:54:00:12:34:56`,
      { fields: { device: name, mac: text } },
    )
  }
  const bytes = Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16))
  if ((bytes[0]! & 1) === 0) return bytes
  throw new VmmError(
    'E_DEVICE_OPTION',
    `Property '${name}.mac' is '${text}', the address of a group: the first byte must be even`,
    { fields: { device: name, mac: text } },
  )
}

const FIRST = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56] as const

/** The default of the `n`th card that has no other, as QEMU counts. */
export function defaultMac(n: number): Uint8Array {
  const bytes = Uint8Array.from(FIRST)
  bytes[5] = (bytes[5]! + n) & 0xff
  return bytes
}
