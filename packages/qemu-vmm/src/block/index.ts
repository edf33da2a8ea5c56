export { BlockError } from './errors.ts'
export type { BlockErrorCode } from './errors.ts'
export type {
  BlockNode,
  CheckOptions,
  CheckResult,
  FormatInfo,
  FormatNode,
  MapEntry,
  BytePlace,
  SnapshotInfo,
} from './node.ts'
export { CACHE_NAMES, cacheMode } from './file/cache-mode.ts'
export type { CacheMode, CacheName } from './file/cache-mode.ts'
export type { Locking } from './file/file-lock.ts'
export { FORMATS, openImage } from './open.ts'
export type { OpenImageOptions } from './open.ts'
export { ErrorPolicy, onError } from './error-policy.ts'
export type { ErrorPolicyOptions, OnError } from './error-policy.ts'
export { PREALLOCATIONS, createImage } from './create.ts'
export type { CreateImageOptions, Preallocation } from './create.ts'
export { checkFile } from './check-file.ts'
export { changeImage, snapshotApply, snapshotCreate, snapshotDelete } from './edit-image.ts'
export type { HeaderChange, NewSnapshot } from './edit-image.ts'
export { COMPRESSION_TYPES } from './qcow2/codecs.ts'
export type { CompressionType } from './qcow2/codecs.ts'
