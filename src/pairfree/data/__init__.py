"""What is trained on: files made into planes, planes into patches, and intensities into network units."""
