export { type DriverAccess, type Registers, directAccess, mmioAccess, pciAccess } from './access.ts'
export { type DriverOptions, FakeDriver, InterruptCounter } from './driver.ts'
export {
  type DriverBuffer,
  DriverQueue,
  type RawDescriptor,
  type UsedElement,
} from './driver-queue.ts'
export { RamDisk } from './ram-disk.ts'
export { FakeMemory, type FakeRegion } from './memory.ts'
export { Random, hostileQueue } from './hostile.ts'
export { NetEnd, batchOf } from './net-end.ts'
