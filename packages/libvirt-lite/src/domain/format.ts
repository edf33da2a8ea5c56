import type { DomainDefinition } from './generated/model.ts'
import { liveDefinition } from './live.ts'
import type { LiveState } from './live.ts'
import { migratableDefinition } from './migratable.ts'
import { domain } from './schema/domain.ts'
import { schemaNamespaces } from './schema/read.ts'
import type { Model } from './schema/types.ts'
import { writeDocument } from './schema/write.ts'
import type { WriteOptions } from './schema/write.ts'

/** What of a domain is written. */
export interface FormatOptions {
  /** The definition, not what is running (virsh dumpxml --inactive). A domain that does not run has nothing else. */
  inactive?: boolean
  /** Passwords as well (--security-info). */
  secure?: boolean
  /** For the host that the domain moves to (--migratable): without what it makes itself. */
  migratable?: boolean
  /** What the domain has while it runs. */
  live?: LiveState | undefined
}

/** Writes a definition as libvirt would: same order, same quotes, same indentation. */
export function formatDomain(def: DomainDefinition, options: FormatOptions = {}): string {
  const { inactive = false, secure = false, migratable = false, live } = options
  const running = live !== undefined && !inactive && !migratable
  const shown = running ? liveDefinition(def, live) : migratable ? migratableDefinition(def) : def
  return write(def, shown, { secure: secure || migratable, live: running })
}

/** Writes all that is known of a running domain's devices, names included: for whoever takes it over, by `readDomain`. */
export function formatRunning(def: DomainDefinition): string {
  return write(def, def, { secure: true, live: true })
}

function write(def: DomainDefinition, shown: DomainDefinition, options: WriteOptions): string {
  const uri = schemaNamespaces['qemu'] ?? ''
  const more = def.qemuCommandline === undefined ? [] : [{ name: 'xmlns:qemu', value: uri }]
  return writeDocument(shown as unknown as Model, domain, options, more)
}
