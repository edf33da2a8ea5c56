/** What happens to a domain besides its life: changes that clients can wait for. */
export type Notice =
  | { kind: 'device-added' | 'device-removed' | 'device-removal-failed'; alias: string }
  /** KiB that the guest has now. */
  | { kind: 'balloon'; kib: number }
  /** `type` is of virDomainMetadataType. */
  | { kind: 'metadata'; type: number; uri: string | undefined }
  | { kind: 'medium'; alias: string; from: string | undefined; to: string | undefined }
  | { kind: 'tray'; alias: string; isOpen: boolean }
