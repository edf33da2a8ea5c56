/** Calls `ended` when a request has ended either way, before who waits for it goes on. */
export async function settle(request: Promise<void>, ended: () => void): Promise<void> {
  try {
    await request
  } finally {
    ended()
  }
}
