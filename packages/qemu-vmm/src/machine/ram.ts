import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  statfsSync,
} from 'node:fs'
import { join } from 'node:path'

import { KvmError } from 'kvm-core'
import type { CreateRamOptions, GuestRam, Vm } from 'kvm-core'

import { VmmError, formatBytes } from '../errors.ts'
import type { MemoryBackendConfig } from '../objects/config.ts'
import type { MemoryMap } from './memory-map.ts'

/** Guest RAM in the memslots of the map, from the given backend or from private memory. */
export function createGuestRam(
  vm: Vm,
  map: MemoryMap,
  backend: MemoryBackendConfig | undefined,
): GuestRam {
  const ram =
    backend?.type === 'memory-backend-file' ? fileRam(vm, backend) : hostRam(vm, map, backend)
  try {
    if (backend?.prealloc === true) ram.populate()
    for (const [slot, { gpa, offset, size }] of map.slots.entries()) {
      vm.setUserMemoryRegion({ slot, gpa, size, ram, offset })
    }
  } catch (error) {
    ram.detach()
    throw cannotHave(map.memoryBytes, error)
  }
  return ram
}

function hostRam(vm: Vm, map: MemoryMap, backend: MemoryBackendConfig | undefined): GuestRam {
  const isMemfd = backend?.type === 'memory-backend-memfd'
  const isHugetlb = backend?.hugetlb === true
  // Nobody else can see a private mapping of a file without a name: it is like any other memory.
  const isShared = backend?.share ?? isMemfd
  const backing: CreateRamOptions['backing'] = isHugetlb ? 'hugetlb' : isShared ? 'memfd' : 'anon'
  if (isHugetlb) checkHugePages(map.memoryBytes, backend.hugetlbsize)
  try {
    return vm.createRam({ size: map.memoryBytes, backing })
  } catch (error) {
    throw cannotHave(map.memoryBytes, error)
  }
}

/** The large pages of the host, which it sets apart for those who ask for them. */
function checkHugePages(bytes: number, pageBytes: number | undefined): void {
  const meminfo = readFileSync('/proc/meminfo', 'utf8')
  const value = (name: string): number =>
    Number(new RegExp(`^${name}:\\s*([0-9]+)`, 'm').exec(meminfo)?.[1] ?? 0)
  const size = value('Hugepagesize') * 1024
  const wanted = pageBytes ?? size
  if (wanted !== size) {
    throw new VmmError(
      'E_MEMORY_SIZE',
      `large pages of ${formatBytes(wanted)} are asked for; this host's are of ` +
        `${formatBytes(size)}, leave out hugetlbsize`,
      { fields: { hugetlbsize: wanted, host: size } },
    )
  }
  if (bytes % size !== 0) {
    throw new VmmError(
      'E_MEMORY_SIZE',
      `guest memory of ${formatBytes(bytes)} is not a multiple of a large page, ` +
        `${formatBytes(size)}; use ${formatBytes(Math.ceil(bytes / size) * size)}`,
      { fields: { memory: bytes, hugetlbsize: size } },
    )
  }
  // Pages that are reserved are counted as free until they are used.
  const free = (value('HugePages_Free') - value('HugePages_Rsvd')) * size
  if (bytes <= free) return
  throw new VmmError(
    'E_MEMORY_SIZE',
    `guest memory of ${formatBytes(bytes)} needs ${bytes / size} large pages, and ` +
      `${free / size} are free; as root write at least ` +
      `${value('HugePages_Total') + (bytes - free) / size} to /proc/sys/vm/nr_hugepages`,
    { fields: { memory: bytes, free } },
  )
}

/** RAM in a file, or in a file without a name in a folder, which may be a hugetlbfs. */
function fileRam(vm: Vm, { id, memPath = '', size, share = false }: MemoryBackendConfig): GuestRam {
  let fd: number | undefined
  try {
    const found = statSync(memPath, { throwIfNoEntry: false })
    const isFolder = found?.isDirectory() === true
    if (found !== undefined && !isFolder && !found.isFile()) {
      throw new VmmError('E_FILE', `'${memPath}' is neither a file nor a folder`)
    }
    const path = isFolder ? join(memPath, `qemu_back_mem.${id}.${process.pid}.${vm.id}`) : memPath
    const exclusive = isFolder ? constants.O_EXCL : 0
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | exclusive, 0o600)
    if (isFolder) rmSync(path)
    const { size: present, blocks } = fstatSync(fd)
    if (present !== 0 && present < size) {
      throw new VmmError(
        'E_MEMORY_SIZE',
        `backing store size ${formatBytes(present)} of '${memPath}' does not match 'size' option ` +
          `${formatBytes(size)}; make the file larger, or remove it`,
        { fields: { path: memPath, present, size } },
      )
    }
    checkFree(memPath, size, blocks * 512)
    if (present < size) ftruncateSync(fd, size)
    return vm.createRam({ size, backing: 'file', fd, share })
  } catch (error) {
    if (error instanceof KvmError) throw cannotHave(size, error)
    if (error instanceof VmmError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new VmmError('E_FILE', `cannot make guest memory of '${memPath}': ${reason}`, {
      fields: { path: memPath },
      cause: error,
    })
  } finally {
    // The mapping keeps the file.
    if (fd !== undefined) closeSync(fd)
  }
}

/** A guest that uses memory which the file system does not have would kill the process. */
function checkFree(path: string, size: number, present: number): void {
  const { bavail, bsize } = statfsSync(path)
  const free = bavail * bsize
  if (size - present <= free) return
  throw new VmmError(
    'E_MEMORY_SIZE',
    `guest memory of ${formatBytes(size)} does not fit where '${path}' is, which has ` +
      `${formatBytes(free)} free; ask for less, or make room`,
    { fields: { path, memory: size, free } },
  )
}

function cannotHave(bytes: number, error: unknown): unknown {
  if (!(error instanceof KvmError) || error.errno !== 'ENOMEM') return error
  return new VmmError(
    'E_MEMORY_SIZE',
    `the host does not give ${formatBytes(bytes)} for guest memory (${error.message}); ` +
      'ask for less',
    { fields: { memory: bytes }, cause: error },
  )
}
