"""What pays where: fitting costs; prediction and plans stand on it."""
