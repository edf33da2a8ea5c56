import type { CpuTopology } from '../topology.ts'
import { MANUFACTURER } from './config.ts'
import type { SmbiosConfig } from './config.ts'
import { fieldsOf } from './options.ts'
import { Structure } from './structure.ts'

const HANDLE_PROCESSOR = 0x0400
/** What a processor is said to run at where nothing is given, in MHz. */
const SPEED = 2000

/** One for each socket with a processor. */
export function processorStructures(config: SmbiosConfig): Structure[] {
  return Array.from({ length: populatedSockets(config.topology) }, (_, i) => processor(config, i))
}

/** Processors fill the sockets one after the other. */
function populatedSockets({ cpus, dies, cores, threads }: CpuTopology): number {
  return Math.ceil(cpus / (dies * cores * threads))
}

/** One socket: the counts saturate at 255, from where the 16-bit ones count on. */
function processor(config: SmbiosConfig, index: number): Structure {
  const { topology, machine, smbios = [], cpuId = { eax: 0, edx: 0 } } = config
  const given = fieldsOf(smbios, 4)
  const coreCount = topology.dies * topology.cores
  const threadCount = coreCount * topology.threads
  const id = given.processorId
  const [eax, edx] =
    id === undefined
      ? [cpuId.eax, cpuId.edx]
      : [Number(id & 0xffff_ffffn), Number((id >> 32n) & 0xffff_ffffn)]
  const name = index.toString(16).padStart(2)
  return (
    new Structure(4, HANDLE_PROCESSOR + index, 42)
      .string(4, `${given.socketPrefix ?? 'CPU'}${name}`)
      .u8(5, 3)
      .u8(6, 1)
      .string(7, given.manufacturer ?? MANUFACTURER)
      .u32(8, eax)
      .u32(12, edx)
      .string(16, given.version ?? machine)
      .u16(20, given.maxSpeed ?? SPEED)
      .u16(22, given.currentSpeed ?? SPEED)
      // Populated and enabled; upgrade "other"; no cache handles.
      .u8(24, 0x41)
      .u8(25, 1)
      .u16(26, 0xffff)
      .u16(28, 0xffff)
      .u16(30, 0xffff)
      .string(32, given.serial)
      .string(33, given.asset)
      .string(34, given.part)
      .u8(35, Math.min(coreCount, 255))
      .u8(36, Math.min(coreCount, 255))
      .u8(37, Math.min(threadCount, 255))
      .u16(38, 0x02)
      .u16(40, 0x01)
  )
}
