import {
  closeSync,
  constants,
  createReadStream,
  fsyncSync,
  openSync,
  rmSync,
  writeSync,
} from 'node:fs'
import type { Duplex, Readable } from 'node:stream'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers, VolumeRef } from '../rpc/index.ts'
import { parseVolume } from '../storage/definition.ts'
import { Images } from '../storage/images.ts'
import type { Pool } from '../storage/pool.ts'
import type { Pools } from '../storage/pools.ts'
import { describeVolume } from '../storage/describe-volume.ts'
import type { Volume } from '../storage/volume.ts'
import { checkFlags } from './check-flags.ts'

/** virStorageVolType: a file. */
const FILE = 0
const CREATE_PREALLOC_METADATA = 1
const INFO_PHYSICAL = 1
/** virStorageVolResizeFlags. */
const RESIZE_ALLOCATE = 1
const RESIZE_DELTA = 2
const RESIZE_SHRINK = 4

const invalid = (text: string): VirtError =>
  new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)

/** Calls about the volumes of storage pools. `isUsed` tells whether a running domain has an image. */
export function storageVolumeHandlers(
  pools: Pools,
  { imageCommand, isUsed }: { imageCommand: string | undefined; isUsed(path: string): boolean },
): Handlers {
  const images = new Images(imageCommand)
  const find = ({ pool: name, name: volume }: VolumeRef): Volume => {
    const pool = pools.named(name)
    return pools.volume(pools.active({ name, uuid: pool.uuid }), volume)
  }
  const unused = (ref: VolumeRef): Volume => {
    const volume = find(ref)
    if (!isUsed(volume.path)) return volume
    const text = `storage volume '${volume.name}' is in use by a running domain`
    throw new VirtError(ErrorCode.OPERATION_INVALID, `Requested operation is not valid: ${text}`)
  }
  const refOf = (pool: Pool, { name, path }: Volume): { vol: VolumeRef } => ({
    vol: { pool: pool.name, name, key: path },
  })
  const info = ({ capacity, allocation, physical }: Volume, flags: number = 0) => ({
    type: FILE,
    capacity: BigInt(capacity),
    allocation: BigInt((flags & INFO_PHYSICAL) === 0 ? allocation : physical),
  })
  const byPath = (path: string): { vol: VolumeRef } => {
    const { pool, volume } = pools.at(path)
    return refOf(pool, volume)
  }
  return {
    STORAGE_VOL_LOOKUP_BY_NAME({ pool: ref, name }) {
      const pool = pools.active(ref)
      return refOf(pool, pools.volume(pool, name))
    },
    STORAGE_VOL_LOOKUP_BY_KEY: ({ key }) => byPath(key),
    STORAGE_VOL_LOOKUP_BY_PATH: ({ path }) => byPath(path),
    STORAGE_VOL_GET_PATH: ({ vol }) => ({ path: find(vol).path }),
    STORAGE_VOL_GET_INFO: ({ vol }) => info(find(vol)),
    STORAGE_VOL_GET_INFO_FLAGS({ vol, flags }) {
      checkFlags(flags, INFO_PHYSICAL, 'virStorageVolGetInfoFlags')
      return { ...info(find(vol), flags), flags }
    },
    STORAGE_VOL_GET_XML_DESC({ vol, flags }) {
      checkFlags(flags, 0, 'virStorageVolGetXMLDesc')
      return { xml: describeVolume(find(vol)) }
    },
    async STORAGE_VOL_CREATE_XML({ pool: ref, xml, flags }) {
      // An image of ours has its metadata where it needs it; to have all of it at once is not asked of a raw one.
      checkFlags(flags, CREATE_PREALLOC_METADATA, 'virStorageVolCreateXML')
      const pool = pools.active(ref)
      const definition = parseVolume(xml)
      await images.create(pool, definition, flags !== 0)
      return refOf(pool, pools.volume(pool, definition.name))
    },
    async STORAGE_VOL_CREATE_XML_FROM({ pool: ref, xml, source, flags }) {
      checkFlags(flags, CREATE_PREALLOC_METADATA, 'virStorageVolCreateXMLFrom')
      const pool = pools.active(ref)
      const definition = parseVolume(xml)
      await images.clone(pool, definition, { source: unused(source), metadata: flags !== 0 })
      return refOf(pool, pools.volume(pool, definition.name))
    },
    STORAGE_VOL_DELETE({ vol, flags }) {
      checkFlags(flags, 0, 'virStorageVolDelete')
      rmSync(unused(vol).path)
    },
    async STORAGE_VOL_RESIZE({ vol, capacity, flags }) {
      checkFlags(flags, RESIZE_ALLOCATE | RESIZE_DELTA | RESIZE_SHRINK, 'virStorageVolResize')
      const volume = unused(vol)
      const shrink = (flags & RESIZE_SHRINK) !== 0
      const by = Number(capacity)
      const sign = shrink ? -1 : 1
      const size = (flags & RESIZE_DELTA) === 0 ? by : volume.capacity + sign * by
      if (!Number.isSafeInteger(size) || size < 0) {
        throw invalid(`capacity ${size}: it is 0 to 2^53 - 1 bytes`)
      }
      if (size < volume.capacity && !shrink) {
        throw invalid(
          "Can't shrink capacity below current capacity unless shrink flag explicitly specified",
        )
      }
      const allocate = (flags & RESIZE_ALLOCATE) !== 0 && size > volume.capacity
      await images.resize(volume, size, { shrink, allocate })
    },
    STORAGE_VOL_DOWNLOAD({ vol, offset, length, flags }, { stream }) {
      checkFlags(flags, 0, 'virStorageVolDownload')
      const { path } = find(vol)
      const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
      const start = position(offset)
      const end = length === 0n ? Infinity : start + position(length) - 1
      send(createReadStream(path, { fd, start, end }), stream)
    },
    STORAGE_VOL_UPLOAD({ vol, offset, length, flags }, { stream }) {
      checkFlags(flags, 0, 'virStorageVolUpload')
      const { path } = unused(vol)
      const start = position(offset)
      const most = length === 0n ? Infinity : position(length)
      const fd = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW)
      void receive(stream, fd, start, most)
    },
  }
}

function position(value: bigint): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
  throw invalid(`offset or length ${value}: it is at most 2^53 - 1 bytes`)
}

/** A file to a client, which may leave before the end. */
function send(file: Readable, stream: Duplex): void {
  file.pipe(stream)
  file.once('error', (error) => stream.destroy(error))
  stream.once('close', () => file.destroy())
  stream.resume()
}

/**
 * A client's bytes to a file; more than it announced are refused. It hears that it is done when all of it is on disk.
 */
async function receive(stream: Duplex, fd: number, start: number, most: number): Promise<void> {
  let taken = 0
  try {
    // The other direction is still to be ended.
    for await (const piece of stream.iterator({ destroyOnReturn: false })) {
      const bytes = piece as Buffer
      if (taken + bytes.length > most) {
        throw invalid(`more than the ${most} bytes that were announced`)
      }
      for (let at = 0; at < bytes.length;) {
        at += writeSync(fd, bytes, at, bytes.length - at, start + taken + at)
      }
      taken += bytes.length
    }
    fsyncSync(fd)
    stream.end()
  } catch (error) {
    stream.destroy(error as Error)
  } finally {
    closeSync(fd)
  }
}
