import { encodeHeader } from './encode-header.ts'
import type { HeaderFields } from './encode-header.ts'
import { COMPAT_LAZY_REFCOUNTS } from './header.ts'
import type { Structure } from './structure.ts'
import { unsupported } from './structure.ts'

/** What an image's header can be changed to while everything else stays. */
export interface HeaderChange {
  /** Null for none. */
  readonly backing?: { readonly file: string; readonly format: string | undefined } | null
  readonly version?: 2 | 3
  readonly lazyRefcounts?: boolean
}

/** Writes the header anew. */
export async function changeHeader(image: Structure, change: HeaderChange): Promise<void> {
  const { file, header, clusterBytes } = image
  const { backing, version = header.version, lazyRefcounts } = change
  if (version < header.version) {
    throw unsupported(
      'An image cannot be made compat=0.10 again: convert it with -O qcow2 -o compat=0.10',
    )
  }
  const lazy =
    lazyRefcounts === undefined
      ? header.compatible
      : lazyRefcounts
        ? header.compatible | COMPAT_LAZY_REFCOUNTS
        : header.compatible & ~COMPAT_LAZY_REFCOUNTS
  if (lazy !== 0 && version < 3) {
    throw unsupported(
      'Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)',
    )
  }
  const fields: HeaderFields = {
    ...header,
    version,
    compatible: lazy >>> 0,
    ...(backing === undefined
      ? {}
      : { backingFile: backing?.file, backingFormat: backing?.format }),
  }
  const cluster = new Uint8Array(clusterBytes)
  encodeHeader(cluster, fields)
  await file.writev(0, [cluster])
  await file.flush()
}
