"""The operating system: processes, their trees and owners, out-of-memory kills, the state directory."""
