"""The routes of ``/v1``, a file a resource."""
