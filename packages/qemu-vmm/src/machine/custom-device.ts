import type { Device, DeviceContext, DeviceDefinition, IoRange } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { Bus } from './bus.ts'
import { unconnectedIrq } from './irq.ts'
import type { IrqLines } from './irq.ts'

const GSI_MAX = 23
const LIMITS = { pio: 0x1_0000, mmio: 2 ** 52 } as const

/** Creates a custom device and maps its ranges. Throws `E_CONFIG` for impossible definitions. */
export function mapCustomDevice(
  bus: Bus,
  irqs: IrqLines,
  definition: DeviceDefinition,
  context: Omit<DeviceContext, 'irq'>,
): Device {
  const { name, irq } = definition
  if (irq !== undefined && (!Number.isInteger(irq) || irq < 0 || irq > GSI_MAX)) {
    throw new VmmError(
      'E_CONFIG',
      `device ${name} wants interrupt ${irq}; there are 0..${GSI_MAX}`,
      {
        fields: { device: name, irq },
      },
    )
  }
  const line = irq === undefined ? unconnectedIrq : irqs.source(irq)
  const device = create(definition, { ...context, irq: line })
  for (const space of ['pio', 'mmio'] as const) {
    const ranges = toArray(definition[space])
    for (const range of ranges) {
      checkRange(name, space, range)
      bus[space].map({
        name,
        base: range.base,
        len: range.len,
        origin: ranges[0]!.base,
        ...(definition.access === undefined ? {} : { access: definition.access }),
        handler: device,
      })
    }
  }
  return device
}

function create(definition: DeviceDefinition, context: DeviceContext): Device {
  try {
    return definition.create(context)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new VmmError(
      'E_DEVICE_FAULT',
      `device ${definition.name} could not be created: ${reason}`,
      { fields: { device: definition.name }, cause },
    )
  }
}

function toArray(ranges: IoRange | readonly IoRange[] | undefined): readonly IoRange[] {
  if (ranges === undefined) return []
  return 'base' in ranges ? [ranges] : ranges
}

function checkRange(name: string, space: 'pio' | 'mmio', { base, len }: IoRange): void {
  const isValid =
    Number.isSafeInteger(base) &&
    Number.isSafeInteger(len) &&
    base >= 0 &&
    len > 0 &&
    base + len <= LIMITS[space]
  if (isValid) return
  throw new VmmError(
    'E_CONFIG',
    `device ${name} wants ${len} addresses from ${base} in the ${space} space, which ends at ` +
      `0x${LIMITS[space].toString(16)}`,
    { fields: { device: name, base, len } },
  )
}
