// A storage pool: a folder, whose regular files are its volumes.
import { readdirSync, statSync, statfsSync } from 'node:fs'
import { element, printXml, text } from '../xml/index.ts'
import type { XmlElement } from '../xml/index.ts'
import type { Permissions, PoolDefinition } from './definition.ts'
import { findVolume, isVolumeName } from './volume.ts'
import type { Volume } from './volume.ts'

/** What a pool's file system has, in bytes. */
export interface PoolSpace {
  readonly capacity: number
  readonly allocation: number
  readonly available: number
}

export class Pool {
  readonly name: string
  readonly uuid: string
  /** The folder. */
  readonly path: string
  /** What its definition wants of the folder. */
  readonly permissions: Permissions
  /** Its definition stays when it is stopped. */
  isPersistent: boolean
  isActive = false
  autostart = false

  constructor(
    { name, uuid, path, permissions = {} }: PoolDefinition & { uuid: string },
    isPersistent: boolean,
  ) {
    this.name = name
    this.uuid = uuid
    this.path = path
    this.permissions = permissions
    this.isPersistent = isPersistent
  }

  /** By name, as the folder is now. */
  volumes(): Volume[] {
    const names = readdirSync(this.path).toSorted()
    return names.flatMap((name) => (isVolumeName(name) ? (findVolume(this.path, name) ?? []) : []))
  }

  space(): PoolSpace {
    if (!this.isActive) return { capacity: 0, allocation: 0, available: 0 }
    const { bsize, blocks, bavail, bfree } = statfsSync(this.path)
    const capacity = bsize * blocks
    return { capacity, allocation: capacity - bsize * bfree, available: bsize * bavail }
  }

  /** Of the folder, if it is there; of the definition otherwise. */
  #permissions(): XmlElement[] {
    const folder = this.isActive ? statSync(this.path, { throwIfNoEntry: false }) : undefined
    const { mode, owner, group } =
      folder === undefined
        ? this.permissions
        : { mode: folder.mode & 0o777, owner: folder.uid, group: folder.gid }
    const values = {
      mode: mode === undefined ? undefined : `0${mode.toString(8).padStart(3, '0')}`,
      owner,
      group,
    }
    const children = Object.entries(values).flatMap(([name, value]) =>
      value === undefined ? [] : [element(name, {}, [text(String(value))])],
    )
    if (children.length === 0) return []
    return [element('permissions', {}, children)]
  }

  /** As `virsh pool-dumpxml` shows it; without the space it is what is kept. */
  describe({ space }: { space: boolean }): string {
    const sizes = space ? Object.entries(this.space()) : []
    return printXml(
      element('pool', { type: 'dir' }, [
        element('name', {}, [text(this.name)]),
        element('uuid', {}, [text(this.uuid)]),
        ...sizes.map(([name, value]) => element(name, { unit: 'bytes' }, [text(String(value))])),
        // It is nothing but a line break in libvirt.
        element('source', {}, [text('\n  ')]),
        element('target', {}, [element('path', {}, [text(this.path)]), ...this.#permissions()]),
      ]),
    )
  }
}
