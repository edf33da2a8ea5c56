import { printXml } from '../xml/index.ts'
import type { DomainDefinition } from './generated/model.ts'
import { liveDefinition } from './live.ts'
import type { LiveState } from './live.ts'
import { migratableDefinition } from './migratable.ts'
import { domain } from './schema/domain.ts'
import { schemaNamespaces } from './schema/read.ts'
import type { Model } from './schema/types.ts'
import { writeElement } from './schema/write.ts'

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
  const root = writeElement(shown as unknown as Model, domain, {
    secure: secure || migratable,
    live: running,
  })
  if (def.qemuCommandline !== undefined) {
    root.attributes.push({ name: 'xmlns:qemu', value: schemaNamespaces['qemu'] ?? '' })
  }
  return printXml(root)
}

/** Writes all that is known of a running domain's devices, names included: for whoever takes it over, by `readDomain`. */
export function formatRunning(def: DomainDefinition): string {
  const root = writeElement(def as unknown as Model, domain, { secure: true, live: true })
  if (def.qemuCommandline !== undefined) {
    root.attributes.push({ name: 'xmlns:qemu', value: schemaNamespaces['qemu'] ?? '' })
  }
  return printXml(root)
}
