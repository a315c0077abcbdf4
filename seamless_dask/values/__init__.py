"""Values: what stands for a Python object as bytes, so that equal objects have equal bytes in any process.

========================  =================================================================
``writing.write_value``   an object into a sink; returns the format
``writing.to_bytes``      format and bytes of a small one
``writing.checksum_of``   identity of the bytes, in constant memory
``loading.load``          format and bytes, or a file of them, back to the object
``registry.register``     a type of the user's own
========================  =================================================================
"""
