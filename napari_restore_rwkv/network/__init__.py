"""Restore-RWKV and its bidirectional WKV operator."""
