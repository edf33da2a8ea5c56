/** A mapping of host memory that memslots show to the guest. */
export interface GuestRam extends Disposable {
  /** Bytes. */
  readonly size: number
  readonly backing: 'anon' | 'memfd' | 'hugetlb' | 'file'
  /** The memfd or the file, or -1. It belongs to this object. */
  readonly fd: number
  /** Number of segments; all but the last have `segmentBytes`. */
  readonly segments: number
  /** 1 GiB: a JavaScript engine may limit a buffer to 4 GiB and is slow beyond 2. */
  readonly segmentBytes: number
  /**
   * The memory itself as this isolate's own ArrayBuffer, the same one at every call. Never post
   * it to another isolate, which would copy it: attach there and ask for that isolate's own.
   * Writes must be reported with `markWritten`.
   */
  segment(index: number): ArrayBuffer
  /** A small ArrayBuffer over `[offset, offset + len)`: views on it are faster than on all RAM. */
  window(offset: number, len: number): ArrayBuffer
  /** Reports a write through an ArrayBuffer, for every memslot that shows these bytes. */
  markWritten(offset: number, len: number): void
  /**
   * Makes every page present now, so that none can be missing later. ENOMEM when the host does not
   * have them all.
   */
  populate(): void
  /** Bytes that the host holds in large pages now. */
  hugeBytes(): number
  /** Bytes that are resident now. */
  residentBytes(): number
  /**
   * Detaches this isolate's ArrayBuffers. The memory itself lives as long as a memslot or another
   * isolate uses it.
   */
  detach(): void
}

/** A part of guest memory that lies together in the host, too. */
export interface MemoryPiece {
  /** Address of the first byte. */
  readonly gpa: number
  readonly bytes: Uint8Array
  /** `KVM_MEM_READONLY`: ROM, to which devices must not write either. */
  readonly readOnly: boolean
}

/**
 * Guest physical memory as a device sees it. All methods throw KvmError EFAULT when a part of the
 * range is in no memslot, before anything is copied.
 */
export interface GuestMemory {
  /** Changes whenever memslots change: views, windows and pieces are to be asked for anew then. */
  readonly generation: number
  /** Copies guest memory into `dst`. */
  read(gpa: number, dst: Uint8Array): void
  /** Copies `src` into guest memory and reports the write. */
  write(gpa: number, src: Uint8Array): void
  /**
   * A view on guest memory in one memslot and one segment, for reading. A writer must call
   * `markWritten` afterwards.
   */
  view(gpa: number, len: number): DataView
  /** An ArrayBuffer of exactly this range, for queues that keep it; as `GuestRam.window`. */
  window(gpa: number, len: number): ArrayBuffer
  /**
   * All of the memory in one memslot and one segment that `gpa` is in, the same view at every call
   * until memslots change. A writer must call `markWritten` afterwards.
   */
  piece(gpa: number): MemoryPiece
  /** Reports a write: feeds the dirty log and drops code that was decoded from these pages. */
  markWritten(gpa: number, len: number): void
  /**
   * Gives the whole pages of a range back to the host, as far as the guest may write them: they read
   * as zeros afterwards, or as a file does that is mapped privately. With `hugetlb` a page has 2 MiB.
   * EOPNOTSUPP when the host cannot; parts may have been given back all the same.
   */
  discard(gpa: number, len: number): void
  /**
   * Reports writes: the entries `first` up to `end` of two arrays. A call costs as much as some tens
   * of entries.
   */
  markAllWritten(gpas: Float64Array, lens: Uint32Array, first: number, end: number): void
  /** True if the whole range is in memslots. */
  contains(gpa: number, len: number): boolean
  /**
   * True if the whole range is in memslots and none of them has `KVM_MEM_READONLY`. As in the kernel,
   * that flag binds the guest only: `write` and the views reach ROM too, and who writes for a device
   * asks first.
   */
  isWritable(gpa: number, len: number): boolean
}

export interface CreateRamOptions {
  /** Bytes, a multiple of 4096. */
  size: number
  /**
   * Default `'anon'`: private memory with transparent large pages. `'memfd'` can be shared with other
   * processes. `'hugetlb'` takes 2 MiB pages from the host's pool: `size` is a multiple of 2 MiB, and
   * `ENOMEM` says how many pages are needed and free when the pool (vm.nr_hugepages) is too small.
   */
  backing?: 'anon' | 'memfd' | 'hugetlb' | 'file'
  /**
   * Only for `'file'`, and then required: an open file that has at least `size` bytes. It stays
   * the caller's, who may close it at once.
   */
  fd?: number
  /** Only for `'file'`: the guest's writes reach the file. Default false. */
  share?: boolean
}

/** `kvm_userspace_memory_region`. All numbers are multiples of 4096. */
export interface UserMemoryRegion {
  /**
   * In its upper half, from bit 16 on, the number of the address space. The slots of 1 (`Cap.MultiAddressSpace`) are seen
   * in system management mode alone, over what address space 0 has there.
   */
  slot: number
  gpa: number
  /** Bytes; 0 deletes the slot. */
  size: number
  /** May be left out when the slot exists. */
  ram?: GuestRam
  /** Where in `ram` the slot begins; default 0. */
  offset?: number
  /** `MemFlag` bits; default 0. */
  flags?: number
}

export interface ClearDirtyLog {
  slot: number
  /** A multiple of 64. */
  firstPage: number
  /** A multiple of 64, or the rest of the slot. */
  numPages: number
  /** One bit per page: pages whose bit is set are cleared. */
  bitmap: Uint8Array
}
