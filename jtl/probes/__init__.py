"""``jtl probe``, and the configs of backbones that are compared."""
